<?php
namespace BitvilleApm;

/** Where in the application a statement comes from. */
final class Origin
{
    /** Where a file is not the application's own. */
    const LIBRARY = '#/(?:vendor|rdbms|Illuminate|Doctrine|wp-includes/(?:class-wpdb|wp-db|class-wp-hook|plugin)\.php)(?:/|$)#';

    private $most;

    /** File => whether it is a library's; null where it is our own. */
    private $libraries = [];

    /** @param int $most frames that are wanted */
    public function __construct(int $most)
    {
        $this->most = $most;
    }

    /**
     * The application's frames that led here, innermost first, without arguments: without those of its libraries,
     * but for the innermost ones where there is nothing else.
     */
    public function frames(): array
    {
        $most = $this->most;
        // Most are found among the nearest frames; to fetch one that is not looked at costs as much as to look at it.
        foreach ([Limits::STACK_NEAR, Limits::STACK_LIBRARIES] as $libraries) {
            $frames = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, $most + $libraries);
            $own = $others = [];
            foreach ($frames as $i => $frame) {
                $library = isset($frame['file']) ? $this->isLibrary($frame['file']) : null;
                if ($library) {
                    $others[] = $i;
                } elseif ($library === false) {
                    $own[] = self::frame($frames, $i);
                    if (count($own) === $most) {
                        return $own;
                    }
                }
            }
            if (count($frames) < $most + $libraries) {
                break;
            }
        }
        foreach ($own === [] ? array_slice($others, 0, $most) : [] as $i) {
            $own[] = self::frame($frames, $i);
        }
        return $own;
    }

    /** Whether a file is not the application's own; null for one of ours. */
    private function isLibrary(string $file): ?bool
    {
        if (!array_key_exists($file, $this->libraries)) {
            $ours = strncmp($file, __DIR__, strlen(__DIR__)) === 0;
            $this->libraries[$file] = $ours ? null : preg_match(self::LIBRARY, $file) !== 0;
        }
        return $this->libraries[$file];
    }

    /** A frame says where a call was made; the function that made it is that of the next frame. */
    private static function frame(array $frames, int $i): string
    {
        $by = isset($frames[$i + 1]) ? $frames[$i + 1] : ['function' => ''];
        $name = (isset($by['class']) ? $by['class'] . $by['type'] : '') . $by['function'];
        return rtrim($frames[$i]['file'] . ':' . $frames[$i]['line'] . ' ' . $name);
    }
}
