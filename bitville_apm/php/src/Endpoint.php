<?php
namespace BitvilleApm;

/** What a request is called: its method, its URI, and the route as soon as somebody knows it. */
final class Endpoint
{
    private $id;
    private $transport;
    private $redactor;
    private $budget;
    private $facts;
    private $method;

    /** Null until it is needed. */
    private $uri;

    /** Null until it is known. */
    private $route;

    /** @param string|null $job a name, where the application begins a piece of work by hand */
    public function __construct(
        string $id,
        Transport $transport,
        Redactor $redactor,
        Budget $budget,
        Facts $facts,
        ?string $job
    ) {
        $this->id = $id;
        $this->transport = $transport;
        $this->redactor = $redactor;
        $this->budget = $budget;
        $this->facts = $facts;
        $this->method = $job === null ? $facts->method() : 'CLI';
        $this->uri = $this->route = $job === null ? null : $redactor->text($job, Limits::ROUTE);
    }

    public function method(): string
    {
        return $this->method;
    }

    public function uri(): string
    {
        if ($this->uri === null) {
            $this->uri = $this->facts->uri();
        }
        return $this->uri;
    }

    public function route(): ?string
    {
        return $this->route;
    }

    /** As the application or its framework names it; told at once, for requests that never end. */
    public function setRoute(string $route): void
    {
        $route = $this->redactor->text($route, Limits::ROUTE);
        if ($route !== '' && $route !== $this->route) {
            $this->route = $route;
            $this->transport->post($this->line());
        }
    }

    /** Asks the framework for its route where nobody has named it yet. @param bool $running in the middle of it */
    public function lookForRoute(bool $running): void
    {
        if ($this->route !== null || !Client::rest()) {
            return;
        }
        $began = hrtime(true);
        $frames = $running ? debug_backtrace(DEBUG_BACKTRACE_PROVIDE_OBJECT, Limits::STACK_DEPTH) : null;
        $route = Routes::found($this->method, $frames);
        if ($route !== null && $running) {
            $this->setRoute($route);
        } elseif ($route !== null) {
            // The end record, which follows at once, has it.
            $this->route = $this->redactor->text($route, Limits::ROUTE);
        }
        $this->budget->spend(hrtime(true) - $began);
    }

    /** The name in the end, which for wp-cron is not the last it had. */
    public function settle(): void
    {
        $last = WordPress::atEnd();
        if ($last !== null) {
            $this->route = $this->redactor->text($last, Limits::ROUTE);
        } elseif (!Facts::commandLine()) {
            $this->lookForRoute(false);
        }
    }

    /** The route line. */
    public function line(): string
    {
        return Transport::line(['t' => 'route', 'id' => $this->id, 'route' => $this->route]);
    }
}
