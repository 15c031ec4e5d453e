"""What files of /proc say, in texts from kernels 3.10 to 6.18, from virtual machines and from containers."""

from __future__ import annotations

import pytest

from bitville_apm.agent.host import parsing
from bitville_apm.agent.host.parsing import Disk

# --- tasks --------------------------------------------------------------------------------------------------

CAT = (
    b"6908 (cat) R 6906 6906 20401 0 -1 4194304 101 7 0 0 11 22 33 44 20 0 1 0 130529 3133440 412 18446744073709551615 "
    b"94435383799808 94435383819689 140730259932128 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 94435383835696 94435383837312 0\n"
)
KTHREADD = (
    b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 24 0 0 18446744073709551615 0 0 0 0 0 0 0 2147483647 "
    b"0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
JAVA_3_10 = (
    b"2311 (java) S 1 2311 2311 0 -1 1077944320 91822 0 31 0 88123 4211 5 6 20 0 214 0 2911 9663676416 511233 "
    b"18446744073709551615 4194304 4196468 140732 140732 140 0 0 1 16800975 18446744073709551615 0 0 17 3 0 0 7 0 0\n"
)


def test_a_task() -> None:
    """Wire 6: times in ticks, whose child it is, how many threads it has, whether it is the kernel's; old and new."""
    cat = parsing.stat(CAT)
    assert (cat.name, cat.state, cat.parent, cat.kernel) == (b"cat", "R", 6906, False)
    assert (cat.cpu, cat.children, cat.threads, cat.started) == (33, 77, 1, 130529)
    assert parsing.state(CAT) == "R"
    kernel = parsing.stat(KTHREADD)
    assert (kernel.name, kernel.kernel, kernel.started) == (b"kthreadd", True, 24)
    java = parsing.stat(JAVA_3_10)
    assert (java.cpu, java.children, java.threads, java.started) == (92334, 11, 214, 2911)


def test_a_thread_is_no_process() -> None:
    """A thread can be read where a process is, though it is not listed: what it would send at its end tells them."""
    assert parsing.is_process(CAT)
    assert parsing.is_process(KTHREADD)
    assert not parsing.is_process(CAT.replace(b" 0 0 17 1 ", b" 0 0 -1 1 "))


@pytest.mark.parametrize("name", [b"a) R (b", b"((sd-pam))", b") S 1 1", b"\xff\n\x00", b"", b"tmux: server"])
def test_a_name_may_be_anything(name: bytes) -> None:
    """A process chooses its name: brackets, spaces and bytes that are no text do not move the numbers behind it."""
    stat = parsing.stat(CAT.replace(b"(cat)", b"(" + name + b")"))
    assert (stat.name, stat.state, stat.parent, stat.started) == (name, "R", 6906, 130529)
    assert parsing.name(name, False)


@pytest.mark.parametrize("text", [b"", b"1", b"1 (a) S 0", CAT[:60], b"\0" * 400, b"1 (a) S " + b"x " * 30])
def test_what_is_no_task(text: bytes) -> None:
    """A line that was cut or is something else is a ValueError, nothing worse."""
    with pytest.raises(ValueError, match=r"no stat line|invalid literal"):
        parsing.stat(text)


@pytest.mark.parametrize(
    ("comm", "kernel", "called"),
    [
        (b"php-fpm8.2", False, "php-fpm"),
        (b"php-fpm", False, "php-fpm"),
        (b"python3.11", False, "python"),
        (b"mysqld", False, "mysqld"),
        (b"worker-12", False, "worker"),
        (b"pool-1-thread-3", False, "pool-1-thread"),
        (b"sidekiq 6.5.1", False, "sidekiq"),
        (b"md5sum", False, "md5sum"),
        (b"1234", False, "1234"),
        (b"7z", False, "7z"),
        (b"", False, "?"),
        (b"caf\xc3\xa9", False, "café"),
        (b"kworker/0:1H-kblockd", True, "[kworker]"),
        (b"kworker/u8:3+flush-254:0", True, "[kworker]"),
        (b"ksoftirqd/1", True, "[ksoftirqd]"),
        (b"jbd2/sda1-8", True, "[jbd2]"),
        (b"xfsaild/dm-0", True, "[xfsaild]"),
        (b"kswapd0", True, "[kswapd]"),
        (b"md127_raid1", True, "[md127_raid]"),
        (b"nfsd", True, "[nfsd]"),
    ],
)
def test_names(comm: bytes, kernel: bool, called: str) -> None:
    """Wire 6: numbers at a name's end are dropped, kernel threads have their name in brackets."""
    assert parsing.name(comm, kernel) == called


# --- the machine --------------------------------------------------------------------------------------------

STAT_6_18 = b"""cpu  72139 17333 19552 140910 8909 3 523 189 7 0
cpu0 33108 8138 8014 77023 3252 0 51 90 0 0
cpu1 39030 9195 11538 63887 5657 0 471 99 0 0
intr 1519202 0 0 5
ctxt 4238176
btime 1795844534
processes 104145
procs_running 4
procs_blocked 7
softirq 970565 0 104413 4 40251 384508 0 5 157299 9 284076
"""
STAT_2_6 = b"cpu  10 20 30 40 50\ncpu0 10 20 30 40 50\nbtime 1\nprocesses 9\n"


def test_all_cpus() -> None:
    """PG-04: what all tasks ran, waited for disks and was taken by other machines, and how many CPUs are on line."""
    total = parsing.total(STAT_6_18)
    assert (total.user, total.system, total.interrupts) == (89472, 19552, 526)
    assert (total.iowait, total.steal, total.cpus, total.forks, total.running) == (8909, 189, 2, 104145, 4)
    old = parsing.total(STAT_2_6)
    assert (old.user, old.system, old.iowait, old.steal, old.cpus, old.running) == (30, 30, 50, 0, 1, None)


def test_what_all_tasks_ran_and_waited() -> None:
    """Wire 6: /proc/schedstat of version 15 and 16 tells both in nanoseconds; a kernel without them tells nothing."""
    domains = b"domain0 00000003 1 2 3 4 5 6 7 8\n"
    text = (
        b"version 15\ntimestamp 4294\ncpu0 0 0 0 0 0 0 900 80 7\n" + domains + b"cpu1 0 0 0 0 0 0 100 20 3\n" + domains
    )
    assert parsing.schedstat(text) == (1000, 100)
    assert parsing.schedstat(b"version 17\ntimestamp 1\n") is None
    assert parsing.schedstat(b"cpu0 1 2\n") is None


def test_load_average() -> None:
    """PG-04: the kernel's average of a minute, how many tasks it has, the last number it gave one."""
    assert parsing.loadavg(b"187.41 98.02 41.88 190/2231 6908\n") == (187.41, 2231, 6908)


MEMINFO = b"""MemTotal:       24684096 kB
MemFree:        21430156 kB
MemAvailable:   23341100 kB
SwapCached:            0 kB
SwapTotal:       2097148 kB
SwapFree:        1048574 kB
HugePages_Total:       0
"""


def test_numbers_by_name() -> None:
    """PG-04: memory and paging; a kernel that does not tell one tells the others (3.10 has no MemAvailable)."""
    wanted = (b"MemTotal", b"MemAvailable", b"SwapTotal")
    assert parsing.numbers(MEMINFO, *wanted) == {
        b"MemTotal": 24684096,
        b"MemAvailable": 23341100,
        b"SwapTotal": 2097148,
    }
    assert b"MemAvailable" not in parsing.numbers(MEMINFO.replace(b"MemAvailable", b"Other"), *wanted)
    paging = b"nr_free_pages 1\npswpin 3\npswpout 4\npgmajfault 2917\npgmajfault_x 9\n"
    assert parsing.numbers(paging, b"pgmajfault", b"pswpin") == {b"pswpin": 3, b"pgmajfault": 2917}


DISKS_6_18 = b"""   7       0 loop0 5 0 40 9 5 0 40 9 0 20 9 0 0 0 0 0 0
 254       0 vda 127584 19936 100 1691002 271590 188804 200 195245 0 120908 1928606 44702 43 11158592 32372 78161 9985
 253       0 zram0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
"""
DISKS_3_10 = b"""   8       0 sda 5 0 10 9 5 0 20 9 0 30 9
   8       1 sda1 5 0 10 9 5 0 20 9 0 30 9
   8      16 sdb 5 0 1 9 5 0 2 9 0 3 9
 253       0 dm-0 5 0 10 9 5 0 20 9 0 30 9
   9     127 md127 5 0 10 9 5 0 20 9 0 30 9
  11       0 sr0 0 0 0 0 0 0 0 0 0 0 0
"""
DISKS_CLOUD = b""" 259       0 nvme0n1 5 0 10 9 5 0 20 9 0 30 9 0 0 0 0
 259       1 nvme0n1p1 5 0 10 9 5 0 20 9 0 30 9 0 0 0 0
 259       2 nvme0n1p128 5 0 10 9 5 0 20 9 0 30 9 0 0 0 0
 202       1 xvda1 5 0 7 9 5 0 8 9 0 9 9
 179       0 mmcblk0 1 0 1 1 1 0 1 1 0 1 1
 179       1 mmcblk0p1 1 0 1 1 1 0 1 1 0 1 1
"""


def test_disks_are_counted_once() -> None:
    """PG-04: partitions and what stands on other disks count no byte twice; a partition without its disk counts."""
    assert parsing.disks(DISKS_6_18) == {"vda": Disk(100 * 512, 200 * 512, 120908)}
    assert parsing.disks(DISKS_3_10) == {"sda": Disk(5120, 10240, 30), "sdb": Disk(512, 1024, 3)}
    assert set(parsing.disks(DISKS_CLOUD)) == {"nvme0n1", "xvda1", "mmcblk0"}


def test_networks_are_counted_once() -> None:
    """PG-04: what leaves this machine, not again on the bridge, tunnel or VLAN it came by; in a container its eth0."""
    head = b"Inter-|   Receive    |  Transmit\n face |bytes packets|bytes packets\n"
    row = b"%s: %d 51663 0 0 0 0 0 0 %d 51663 0 0 0 0 0 0\n"
    names = (
        b"  lo",
        b"eth0",
        b"eth1",
        b"eth0.100",
        b"docker0",
        b"br-12ab",
        b"br0",
        b"veth12",
        b"wg0",
        b"bond0",
        b"ifb0",
    )
    text = head + b"".join(row % (name, 10 + n, 20 + n) for n, name in enumerate(names))
    assert parsing.network(text) == {"eth0": (11, 21), "eth1": (12, 22)}
    assert parsing.network(head + b"enp3s0:99 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n") == {"enp3s0": (99, 7)}


def test_pressure() -> None:
    """PG-04: the totals, in microseconds; kernels before 5.13 have no `full` for CPU."""
    some = b"some avg10=54.20 avg60=16.75 avg300=5.89 total=38115803\n"
    assert parsing.pressure(some) == {"some": 38115803}
    assert parsing.pressure(some + b"full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n") == {
        "some": 38115803,
        "full": 12,
    }
    assert parsing.pressure(b"") == {}


@pytest.mark.parametrize(
    ("text", "group"),
    [
        (b"0::/system.slice/postgresql@15-main.service\n", "/system.slice/postgresql@15-main.service"),
        (b"0::/\n", None),
        (b"9:name=systemd:/\n4:memory:/a\n3:cpuset:/\n1:cpu,cpuacct:/b\n0::/\n", "/b"),
        (b"9:name=systemd:/user.slice\n4:memory:/a\n", "/user.slice"),
        (b"", None),
        (b"nonsense\n", None),
    ],
)
def test_cgroups(text: bytes, group: str | None) -> None:
    """Wire 6: the group of a blocked task, on both versions of cgroups."""
    assert parsing.cgroup(text) == group


def test_cpus_that_a_container_may_use() -> None:
    """Wire 6, cores: a quota is a share of CPUs, `max` is none."""
    assert parsing.quota(b"150000 100000\n") == 1.5
    assert parsing.quota(b"max 100000\n") is None
    assert parsing.quota(b"") is None


def test_counters_that_begin_anew() -> None:
    """A disk that was unplugged, or is new, says nothing for once, rather than something huge."""
    before, now = {"a": (5, 5), "b": (9, 9)}, {"a": (7, 5), "b": (1, 9), "c": (100, 100)}
    assert list(parsing.differences(before, now)) == [(2, 0)]
