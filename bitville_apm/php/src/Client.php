<?php
namespace BitvilleApm;

/** The client in this process: the request being measured, if any, and the order of its end. */
final class Client
{
    const VERSION = '0.1.0';

    /** The file of classes that are not needed at once. */
    const REST = __DIR__ . '/rest.php';

    private static $booted = false;
    private static $home;
    private static $config;
    private static $request;
    private static $registered = false;
    private static $thrown;
    private static $complete = false;
    private static $tried = false;

    /**
     * Begins the request of this process.
     *
     * @param int $loadedNs hrtime when the client began its own work
     * @param string $home the client's folder, in which a file `off` switches it off
     */
    public static function boot(int $loadedNs, string $home): void
    {
        if (self::$booted || !Facts::present()) {
            return;
        }
        self::$booted = true;
        if (!self::able()) {
            return;
        }
        $config = Config::load();
        if (!$config->enabled) {
            return;
        }
        self::$config = $config;
        self::$home = $home;
        if (!self::switchedOff() && (!self::loadsEarly() || self::rest())) {
            self::$request = new Request($config, $loadedNs);
            self::register();
        }
    }

    /** Whether nothing is disabled that the client cannot do without. PHP itself answers this when it compiles. */
    private static function able(): bool
    {
        return function_exists('set_error_handler') && function_exists('restore_error_handler')
            && function_exists('register_shutdown_function') && function_exists('hrtime')
            && function_exists('microtime') && function_exists('json_encode') && function_exists('parse_ini_file')
            && function_exists('random_bytes') && function_exists('is_file');
    }

    /** Loads what a request does not need at once; false where it is missing. */
    public static function rest(): bool
    {
        // Once: files that are being copied over may fail half way, and no class can be declared a second time.
        if (!self::$tried) {
            self::$tried = true;
            // What OPcache does not hold yet is compiled: not on the last memory of a request that has used up its own.
            $limit = self::lifted();
            self::$complete = Facts::hasRoom() && (include self::REST) === true;
            self::restore($limit);
        }
        return self::$complete;
    }

    /** Lifts memory_limit for our own work where a request has used it up; what it was, false where it stays. */
    public static function lifted()
    {
        if (Facts::hasRoom() || !function_exists('ini_set')) {
            return false;
        }
        return ini_set('memory_limit', (string) (memory_get_usage(true) + 4 * Limits::HEADROOM_BYTES));
    }

    /** @param string|false $limit what lifted() answered */
    public static function restore($limit): void
    {
        if ($limit !== false) {
            ini_set('memory_limit', $limit);
        }
    }

    /** Without OPcache loading is compiling: too much for a request that has just run out of memory. */
    private static function loadsEarly(): bool
    {
        return Facts::commandLine() || !ini_get('opcache.enable');
    }

    /** `bitville php off`: a look at a file in each request, because no pool has to be reloaded for it (PHP-17). */
    private static function switchedOff(): bool
    {
        return is_file(self::$home . '/off');
    }

    private static function register(): void
    {
        self::$registered = true;
        // Memory for the end of a request that has used up its own. A method of PHP's gives it back, because on
        // entering a function of ours Excimer would first take its pending samples, which need memory, too.
        $bytes = function_exists('ini_set') ? Limits::RESERVE_BYTES : Limits::RESERVE_FIXED_BYTES;
        $reserve = new \ArrayObject([str_repeat("\0", $bytes)]);
        register_shutdown_function([$reserve, 'offsetUnset'], 0);
        register_shutdown_function([self::class, 'shutdown'], Limits::SHUTDOWN_AGAIN);
    }

    /** The request being measured; null when off, between two jobs, and in a forked child. */
    public static function request(): ?Request
    {
        return self::$request !== null && self::$request->mine() ? self::$request : null;
    }

    public static function config(): ?Config
    {
        return self::$config;
    }

    /** Where the statements of a source are noted (`pdo`, `mysqli` …); null when nobody wants them. */
    public static function sql(string $source): ?Sql
    {
        $request = self::request();
        return $request === null ? null : $request->sql($source);
    }

    /** What to put in front of a statement of the client's own classes: the correlation, if it is wanted (PHP-12). */
    public static function comment(): string
    {
        $request = self::request();
        return $request === null || !self::$config->sqlComment ? '' : '/* correlation:' . $request->id() . ' */ ';
    }

    /** Begins a job of a worker by hand; what was being measured before ends here. */
    public static function begin(string $name): void
    {
        if (self::$config === null) {
            return;
        }
        self::end();
        if (function_exists('clearstatcache')) {
            // PHP remembers a file that is there, and this worker may have looked at it when it was off.
            clearstatcache();
        }
        if (self::switchedOff()) {
            return;
        }
        self::$request = new Request(self::$config, hrtime(true), $name);
        if (!self::$registered) {
            self::register();
        }
    }

    public static function end(): void
    {
        $request = self::request();
        self::$request = null;
        if ($request !== null && self::rest()) {
            $request->finish(true);
        }
    }

    /**
     * The end of the process's request.
     *
     * It puts itself to the end of the queue again and again: shutdown functions nest, and those of the application
     * come first.
     */
    public static function shutdown(int $again): void
    {
        self::quietly(static function () use ($again) {
            $request = self::$request;
            if ($request === null) {
                return;
            }
            // Looked at early too: a later warning would overwrite it.
            $request->noteFatal();
            if ($again > 0) {
                register_shutdown_function([self::class, 'shutdown'], $again - 1);
            } else {
                self::finish($request);
            }
        });
    }

    /** The last act: at once on a command line; for a page when nothing more can be printed. */
    public static function finish(Request $request): void
    {
        if (!self::rest()) {
            return;
        }
        if (self::answers() === []) {
            $request->finish();
            return;
        }
        AfterAll::run(static function () use ($request) {
            self::quietly([$request, 'finish']);
            if (self::$thrown !== null) {
                // By an output callback of the application; without us PHP would have reported it here, too.
                $thrown = self::$thrown;
                self::$thrown = null;
                throw $thrown;
            }
        });
    }

    /** What this PHP has for sending the response off before the script ends. */
    private static function answers(): array
    {
        return array_filter(['fastcgi_finish_request', 'litespeed_finish_request'], 'function_exists');
    }

    /**
     * Gives the visitor the response before the client waits for anything.
     *
     * Outside our own error handler, because output callbacks are the application's code; and not to be aborted by a
     * visitor who has left, because that would end this process before the record is sent.
     */
    public static function answer(): void
    {
        foreach (self::answers() as $finish) {
            $aborting = function_exists('ignore_user_abort') ? ignore_user_abort(true) : null;
            restore_error_handler();
            try {
                $finish();
            } catch (\Throwable $e) {
                self::$thrown = $e;
            }
            set_error_handler([self::class, 'silence']);
            if ($aborting !== null) {
                ignore_user_abort((bool) $aborting);
            }
            return;
        }
    }

    /** Runs our own work, if the client is on, so that nothing of it is thrown, printed or left in error_get_last(). */
    public static function quietly(callable $work)
    {
        if (self::$config === null) {
            return null;
        }
        set_error_handler([self::class, 'silence']);
        try {
            return $work();
        } catch (\Throwable $e) {
            return null;
        } finally {
            restore_error_handler();
        }
    }

    /** An error handler that handles everything. */
    public static function silence(): bool
    {
        return true;
    }
}
