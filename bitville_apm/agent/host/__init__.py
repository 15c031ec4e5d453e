"""What runs on this machine, looked at once a second from /proc: tasks by name, and the numbers of the machine."""
