<?php
/**
 * The functions of the first version, for applications that still call them: `require 'CLIENT/compat.php'` (PHP-10).
 *
 * The client sends each request by itself now, and keeps its spool in order. So these send nothing, and a call of them
 * does no harm. Each is defined only if its name is still free; this is the one file with names outside of
 * `bitville_apm_`, and nothing of ours loads it.
 */

if (!function_exists('send_profiling_data')) {
    /** Whether this request is measured: then its record is sent when it ends. */
    function send_profiling_data(...$data): bool
    {
        return function_exists('bitville_apm_is_active') && bitville_apm_is_active();
    }
}

if (!function_exists('transmit_or_buffer')) {
    /** As send_profiling_data(): a record that cannot be sent is spooled. */
    function transmit_or_buffer(...$data): bool
    {
        return function_exists('bitville_apm_is_active') && bitville_apm_is_active();
    }
}

if (!function_exists('write_to_disk_buffer')) {
    /** As send_profiling_data(): only what cannot be sent is spooled. */
    function write_to_disk_buffer(...$data): bool
    {
        return function_exists('bitville_apm_is_active') && bitville_apm_is_active();
    }
}

if (!function_exists('cleanup_old_buffers')) {
    /** The number of files removed here: the spool looks after its own age and size. */
    function cleanup_old_buffers(...$options): int
    {
        return 0;
    }
}

if (!function_exists('check_listener_socket')) {
    /** What bitville_apm_check_socket() finds. */
    function check_listener_socket(...$options): array
    {
        return function_exists('bitville_apm_check_socket')
            ? bitville_apm_check_socket()
            : ['socket_path' => '', 'exists' => false, 'is_socket' => false, 'writable_dir' => false];
    }
}
