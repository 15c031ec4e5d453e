<?php
namespace BitvilleApm;

/**
 * The route that a framework has found for this request (PHP-15), read from where the framework keeps it.
 *
 * It is looked for when a request is a second old, when Symfony's headers go out, and at the end. While the
 * application runs only properties are read: whatever it is in the middle of, nothing of it is called.
 */
final class Routes
{
    /**
     * The name of the route; null while none is known.
     *
     * @param array|null $frames debug_backtrace() with its objects while the application runs; null at the end
     */
    public static function found(string $method, ?array $frames): ?string
    {
        foreach (['laravel', 'symfony', 'phalcon', 'mediaWiki'] as $framework) {
            try {
                $route = self::$framework($method, $frames);
                if ($route !== null) {
                    return $route;
                }
            } catch (\Throwable $e) {
                // Another version of it than those known here; the path will do.
            }
        }
        return null;
    }

    /** `GET /orders/{order}`, as the routes file has it. */
    private static function laravel(string $method): ?string
    {
        $class = 'Illuminate\\Container\\Container';
        $container = class_exists($class, false) ? self::property($class, 'instance', null) : null;
        $instances = is_object($container) ? self::property($class, 'instances', $container) : [];
        if (!isset($instances['router']) || !is_a($instances['router'], 'Illuminate\\Routing\\Router')) {
            return null;
        }
        $route = self::property('Illuminate\\Routing\\Router', 'current', $instances['router']);
        $uri = is_object($route) ? self::property('Illuminate\\Routing\\Route', 'uri', $route) : null;
        return is_string($uri) ? $method . ' /' . ltrim($uri, '/') : null;
    }

    /** `GET blog_show`: the route's name, which is all that Symfony keeps of it. */
    private static function symfony(string $method, ?array $frames): ?string
    {
        $class = 'Symfony\\Component\\HttpFoundation\\Request';
        if (!class_exists($class, false)) {
            return null;
        }
        $runner = 'Symfony\\Component\\Runtime\\Runner\\Symfony\\HttpKernelRunner';
        // The outermost request last: those within it are its fragments.
        $seen = [];
        foreach ((array) $frames as $frame) {
            foreach (isset($frame['args']) ? $frame['args'] : [] as $argument) {
                $seen[] = $argument;
            }
            if (isset($frame['object']) && is_a($frame['object'], $runner)) {
                $seen[] = self::property($runner, 'request', $frame['object']);
            }
        }
        $seen[] = isset($GLOBALS['request']) ? $GLOBALS['request'] : null;
        foreach (array_reverse($seen) as $request) {
            if ($request instanceof $class && isset($request->attributes)) {
                $bag = 'Symfony\\Component\\HttpFoundation\\ParameterBag';
                $found = self::property($bag, 'parameters', $request->attributes);
                if (isset($found['_route']) && is_string($found['_route'])) {
                    return $method . ' ' . $found['_route'];
                }
            }
        }
        return null;
    }

    /** `GET /products/{id}`, the matched route's pattern; for the default routes `GET products/show`. */
    private static function phalcon(string $method, ?array $frames): ?string
    {
        $container = null;
        foreach (['Phalcon\\Di\\Di', 'Phalcon\\Di'] as $class) {
            // Phalcon makes a service when it is first asked for: so not in the middle of it.
            if ($frames === null && $container === null && class_exists($class, false)) {
                $container = $class::getDefault();
            }
        }
        if (!is_object($container) || !$container->has('router')) {
            return null;
        }
        $route = $container->getShared('router')->getMatchedRoute();
        $pattern = is_object($route) ? (string) $route->getPattern() : '';
        if ($pattern === '' || strpbrk($pattern, '#:(') === false) {
            return $pattern === '' ? null : $method . ' ' . $pattern;
        }
        $dispatcher = $container->has('dispatcher') ? $container->getShared('dispatcher') : null;
        // Controller and action are the visitor's words until there is such a class.
        return is_object($dispatcher) && class_exists($dispatcher->getHandlerClass(), false)
            ? $method . ' ' . $dispatcher->getControllerName() . '/' . $dispatcher->getActionName()
            : null;
    }

    /** `view`, `edit`, `Special:RecentChanges`, `api query`. */
    private static function mediaWiki(string $method, ?array $frames): ?string
    {
        if (!defined('MEDIAWIKI')) {
            return null;
        }
        if ($frames === null) {
            return self::mediaWikiAtEnd();
        }
        foreach ($frames as $frame) {
            $object = isset($frame['object']) ? $frame['object'] : null;
            if (is_a($object, 'SpecialPage')) {
                return 'Special:' . self::property('SpecialPage', 'mName', $object);
            }
            if (is_a($object, 'ApiBase') && !is_a($object, 'ApiMain')) {
                return 'api ' . self::property('ApiBase', 'mModuleName', $object);
            }
        }
        return null;
    }

    private static function mediaWikiAtEnd(): ?string
    {
        $entry = defined('MW_ENTRY_POINT') ? constant('MW_ENTRY_POINT') : '';
        $context = class_exists('RequestContext', false) ? \RequestContext::getMain() : null;
        if ($context === null) {
            return null;
        }
        if ($entry === 'api') {
            // The visitor's word: known if it is one of the modules.
            $action = $context->getRequest()->getRawVal('action');
            $constants = (new \ReflectionClass('ApiMain'))->getConstants();
            $modules = (isset($constants['MODULES']) ? $constants['MODULES'] : [])
                + (isset($GLOBALS['wgAPIModules']) ? (array) $GLOBALS['wgAPIModules'] : []);
            return is_string($action) && isset($modules[$action]) ? 'api ' . $action : null;
        }
        $title = $entry === 'index' ? $context->getTitle() : null;
        if ($title === null) {
            return null;
        }
        if ($title->getNamespace() !== -1) {
            return $context->getActionName();
        }
        $pages = \MediaWiki\MediaWikiServices::getInstance()->getSpecialPageFactory();
        $name = $pages->resolveAlias($title->getDBkey())[0];
        return is_string($name) ? 'Special:' . $name : null;
    }

    /** A property whoever may see it; an object null means a static one. */
    private static function property(string $class, string $name, $object)
    {
        $property = new \ReflectionProperty($class, $name);
        if (PHP_VERSION_ID < 80100) {
            $property->setAccessible(true);
        }
        return $object === null ? $property->getValue() : $property->getValue($object);
    }
}
