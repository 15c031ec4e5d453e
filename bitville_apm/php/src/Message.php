<?php
namespace BitvilleApm;

/**
 * The message of a fatal error as it may be sent: without the trace of an uncaught exception (it has arguments), and
 * without the literals that databases repeat in their errors.
 */
final class Message
{
    /** How much of a message is looked at. */
    const BYTES = 8192;

    const OF_DATABASES = '/SQLSTATE|sql|pg_query|QueryException/i';

    /** What goes from those, and what stands for it. */
    const LITERALS = [
        '/\s*\((?:SQL|Connection):.*+$/sD' => '',
        '/\n.*+$/sD' => '',
        '/\'[^\']*+\'?|"[^"]*+"?/' => '?',
        '/=\([^)]*+\)?/' => '=(?)',
        // Numbers, but for the code in `SQLSTATE[23000]`.
        '/(?<!\[)\b\d{4,}+\b/' => '?',
    ];

    public static function redacted(Redactor $redactor, string $message): string
    {
        $message = preg_replace('/\s*+\n?Stack trace:\n.*+$/sD', '', substr($message, 0, self::BYTES));
        if ($message !== null && preg_match(self::OF_DATABASES, $message) === 1) {
            $message = preg_replace(array_keys(self::LITERALS), array_values(self::LITERALS), $message);
        }
        return $message === null ? Redactor::MARK : $redactor->text($message);
    }
}
