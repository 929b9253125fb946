from __future__ import annotations

import logging
import math
import os
from pathlib import Path

import numpy as np
import pytest

from collectors.disks import Mount, real_mounts, real_types
from collectors.host import HostCollector
from collectors.options import CollectorOptions
from collectors.section import ProcFile
from metrics.catalogue import series
from metrics.clock import ManualClock, SystemClock
from metrics.errors import TransientError
from metrics.frame import Frame

TICK = os.sysconf("SC_CLK_TCK")


class Machine:
    """A machine made of files, as the kernel would show it, with a collector reading them."""

    def __init__(self, tmp_path: Path, *, pressure: bool = True, **options: object) -> None:
        self.proc, self.sys, self.data = tmp_path / "proc", tmp_path / "sys", tmp_path / "data"
        self.data.mkdir()
        self.clock = ManualClock()
        self.write("uptime", "1617.15 2906.13\n")
        self.write("loadavg", "0.72 0.44 0.25 3/102 10940\n")
        self.write(
            "meminfo",
            "MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 600 kB\nBuffers: 50 kB\nCached: 200 kB\nSReclaimable: 30 kB\nSwapTotal: 100 kB\nSwapFree: 75 kB\nHugePages_Total: 0\n",
        )
        self.write(
            "vmstat",
            "nr_free_pages 6\npgpgin 10\npgpgout 20\npswpin 1\npswpout 2\npgfault 300\npgmajfault 4\noom_kill 5\n",
        )
        self.write("filesystems", "nodev\tproc\nnodev\ttmpfs\n\text4\n\tsquashfs\nnodev\toverlay\n")
        self.write(
            "self/mountinfo", f"22 1 254:0 / {tmp_path} rw - ext4 /dev/vda rw\n23 22 0:20 / /proc rw - proc proc rw\n"
        )
        self.write(
            "net/snmp",
            "Ip: A\nIp: 1\nTcp: RetransSegs CurrEstab\nTcp: 7 3\nUdp: NoPorts InErrors RcvbufErrors SndbufErrors\nUdp: 1 2 3 4\n",
        )
        if pressure:
            for name in ("cpu", "memory", "io"):
                self.write(
                    f"pressure/{name}",
                    "some avg10=1.50 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
                )
        self.cpu([[100, 0, 50, 800, 50, 0, 0, 0]] * 2)
        self.disks({"vda": 1000})
        self.interfaces("lo", "eth0")
        self.collector = HostCollector(
            self.clock,
            CollectorOptions(**options),
            self.data,
            proc=self.proc,
            sys=self.sys,  # type: ignore[arg-type]
        )

    def write(self, name: str, text: str, root: Path | None = None) -> None:
        path = (root or self.proc) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def cpu(self, cores: list[list[int]]) -> None:
        rows = [[sum(column) for column in zip(*cores, strict=True)], *cores]
        names = ["cpu ", *(f"cpu{number}" for number in range(len(cores)))]
        lines = [f"{name} {' '.join(map(str, row))} 0 0" for name, row in zip(names, rows, strict=True)]
        self.write(
            "stat",
            "\n".join(
                [
                    *lines,
                    "intr 900 0 1 2",
                    "ctxt 77",
                    "btime 1700000000",
                    "processes 5",
                    "procs_running 2",
                    "procs_blocked 1",
                    "softirq 44 1 2",
                ]
            )
            + "\n",
        )

    def disks(self, busy_ms: dict[str, int]) -> None:
        lines = []
        for name, busy in busy_ms.items():
            lines.append(f" 254 0 {name} 10 1 8 2000 20 2 16 3000 1 {busy} 5000 0 0 0 0 0 0")
            lines.append(f" 254 1 {name}1 10 1 8 2000 20 2 16 3000 1 {busy} 5000")
            (self.sys / "block" / name / "device").mkdir(parents=True, exist_ok=True)
        lines.append("   7 0 loop0 0 0 0 0 0 0 0 0 0 0 0")
        self.write("diskstats", "\n".join(lines) + "\n")

    def interfaces(self, *names: str) -> None:
        rows = [f"{name:>6}: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0" for name in names]
        self.write("net/dev", "\n".join(["Inter-| Receive", " face |bytes", *rows]) + "\n")
        for name in names:
            self.write(f"class/net/{name}/carrier", "1\n", self.sys)

    def tick(self, after_s: float = 1.0) -> Frame:
        self.clock.advance(round(after_s * 1e9))
        return self.collector.collect(self.clock.now_ns())


def value(frame: Frame, name: str, /, **labels: str) -> float:
    return float(frame.values[frame.schema.index[series(f"deskvigil_host_{name}", **labels)]])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_cpu_time_is_in_seconds_and_busy_since_the_last_tick(machine: Machine) -> None:
    first = machine.tick()
    machine.cpu([[175, 0, 75, 800, 50, 0, 0, 0], [100, 0, 50, 890, 60, 0, 0, 0]])
    second = machine.tick()
    assert math.isnan(value(first, "cpu_busy_ratio"))
    assert value(second, "cpu_busy_ratio") == pytest.approx(0.5)
    assert value(second, "cpu_core_busy_ratio", cpu="0") == 1.0
    assert value(second, "cpu_core_busy_ratio", cpu="1") == 0.0
    assert value(second, "cpu_mode_ratio", mode="iowait") == pytest.approx(0.05)
    assert value(second, "cpu_seconds_total", cpu="0", mode="user") == pytest.approx(175 / TICK)
    assert value(second, "context_switches_total") == 77
    assert value(second, "interrupts_total") == 900
    assert value(second, "cpus") == 2


@pytest.mark.parametrize(
    ("line", "file", "text"),
    [
        ("0::/desk.slice/vigil.service", "desk.slice/vigil.service/cpu.stat", "usage_usec 9\nnr_periods 8\nnr_throttled 3\nthrottled_usec 1500000\n"),
        ("0::/", "cpu.stat", "usage_usec 9\nnr_periods 8\nnr_throttled 3\nthrottled_usec 1500000\nnr_bursts 0\n"),
        ("9:memory:/x\n4:cpu,cpuacct:/outside/ab12", "cpu/cpu.stat", "nr_periods 8\nnr_throttled 3\nthrottled_time 1500000000\n"),
    ],
)  # fmt: skip
def test_time_held_back_by_a_processor_quota_is_told_by_both_kinds_of_control_group(
    tmp_path: Path, line: str, file: str, text: str
) -> None:
    bare = Machine(tmp_path)
    assert not any("throttled" in one.name for one in bare.tick().schema.series)
    bare.write("self/cgroup", line + "\n")
    bare.write(f"fs/cgroup/{file}", text, bare.sys)
    collector = HostCollector(bare.clock, CollectorOptions(), bare.data, proc=bare.proc, sys=bare.sys)
    frame = collector.collect(bare.clock.now_ns())
    collector.close()
    assert value(frame, "cpu_quota_periods_total") == 8
    assert value(frame, "cpu_throttled_periods_total") == 3
    assert value(frame, "cpu_throttled_seconds_total") == 1.5


def test_a_core_that_is_switched_off_takes_its_series_along(machine: Machine) -> None:
    before = machine.tick()
    machine.cpu([[200, 0, 50, 800, 50, 0, 0, 0]])
    after = machine.tick()
    assert series("deskvigil_host_cpu_core_busy_ratio", cpu="1") in before.schema.index
    assert series("deskvigil_host_cpu_core_busy_ratio", cpu="1") not in after.schema.index
    assert value(after, "cpus") == 1


def test_idle_time_that_runs_backwards_does_not_make_ratios_leave_their_range(machine: Machine) -> None:
    machine.tick()
    machine.cpu([[110, 0, 50, 790, 40, 0, 0, 0]] * 2)
    assert value(machine.tick(), "cpu_busy_ratio") == 1.0


def test_memory_states_add_up_to_the_total(machine: Machine) -> None:
    frame = machine.tick()
    states = [value(frame, "memory_bytes", state=state) for state in ("used", "free", "buffers", "cached")]
    assert sum(states) == value(frame, "memory_total_bytes") == 1000 * 1024
    assert value(frame, "memory_used_ratio") == pytest.approx(0.4)
    assert value(frame, "swap_used_ratio") == pytest.approx(0.25)
    assert value(frame, "oom_kills_total") == 5
    assert value(frame, "paging_bytes_total", direction="out") == 20 * 1024


def test_a_machine_without_swap_uses_none_of_it(machine: Machine) -> None:
    machine.write(
        "meminfo", "MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 600 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"
    )
    assert value(machine.tick(), "swap_used_ratio") == 0


def test_only_whole_disks_are_read_with_their_busy_time(machine: Machine) -> None:
    machine.tick()
    machine.disks({"vda": 1250})
    frame = machine.tick(0.5)
    devices = {one.label("device") for one in frame.schema.series if one.name.startswith("deskvigil_host_disk_")}
    assert devices == {"vda"}
    assert value(frame, "disk_busy_ratio", device="vda") == pytest.approx(0.5)
    assert value(frame, "disk_bytes_total", device="vda", direction="write") == 16 * 512
    assert value(frame, "disk_operations_total", device="vda", direction="read") == 10
    assert value(frame, "disk_time_seconds_total", device="vda", direction="read") == pytest.approx(2.0)


def test_a_disk_plugged_in_makes_a_new_schema_and_starts_idle(machine: Machine) -> None:
    before = machine.tick()
    machine.disks({"vda": 1000, "sdb": 77})
    plugged = machine.tick()
    machine.disks({"vda": 1000})
    pulled = machine.tick()
    assert before.schema is not plugged.schema
    assert value(plugged, "disk_busy_ratio", device="sdb") == 0
    assert series("deskvigil_host_disk_in_flight", device="sdb") not in pulled.schema.index


def test_nothing_changed_means_the_same_schema(machine: Machine) -> None:
    assert machine.tick().schema is machine.tick().schema


def test_interfaces_are_read_without_the_ignored_ones(machine: Machine) -> None:
    machine.interfaces("lo", "eth0", "veth1234")
    frame = machine.tick()
    shown = {one.label("interface") for one in frame.schema.series if one.name == "deskvigil_host_network_up"}
    assert shown == {"eth0"}
    assert value(frame, "network_bytes_total", interface="eth0", direction="transmit") == 500
    assert value(frame, "network_drops_total", interface="eth0", direction="receive") == 4
    assert value(frame, "network_up", interface="eth0") == 1
    assert value(frame, "tcp_retransmits_total") == 7
    assert value(frame, "udp_errors_total", reason="receive_buffer") == 3


def test_an_interface_that_loses_its_carrier_is_down(machine: Machine) -> None:
    machine.tick()
    machine.write("class/net/eth0/carrier", "0\n", machine.sys)
    assert value(machine.tick(), "network_up", interface="eth0") == 0


def test_what_is_beyond_the_limits_is_counted(tmp_path: Path) -> None:
    machine = Machine(tmp_path, max_interfaces=1, max_disks=1, max_cores=1)
    machine.interfaces("eth0", "eth1", "eth2")
    machine.disks({"vda": 1, "vdb": 2})
    frame = machine.tick()
    assert value(frame, "devices_left_out") == 2 + 1 + 1
    assert value(frame, "cpus") == 2


def test_filesystems_are_read_once_per_device_and_images_not_at_all(tmp_path: Path) -> None:
    mountinfo = (
        "22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"
        "30 22 254:0 /opt /mnt/a\\040b rw - ext4 /dev/vda rw\n"
        "31 22 7:1 / /snap/core ro - squashfs /dev/loop1 ro\n"
        "32 22 0:40 / /tmp rw - tmpfs tmpfs rw\n"
        "33 22 254:16 / /mnt/a\\040b rw - ext4 /dev/vdb rw\n"
    )
    types = real_types("nodev\ttmpfs\n\text4\n\tsquashfs\n")
    assert real_mounts(mountinfo, types) == [Mount("254:0", "/", "ext4"), Mount("254:16", "/mnt/a b", "ext4")]


def test_the_data_folders_space_is_read_whatever_its_filesystem(machine: Machine) -> None:
    frame = machine.tick()
    assert value(frame, "data_available_bytes") > 0
    assert 0 <= value(frame, "data_used_ratio") <= 1
    assert value(frame, "data_readonly") == 0
    machine.data.rmdir()
    assert math.isnan(value(machine.tick(), "data_available_bytes"))


def test_an_unmounted_filesystem_takes_its_series_along(machine: Machine, tmp_path: Path) -> None:
    labels = {"mountpoint": str(tmp_path), "fstype": "ext4"}
    assert value(machine.tick(), "filesystem_size_bytes", **labels) > 0
    machine.write("self/mountinfo", "23 22 0:20 / /proc rw - proc proc rw\n")
    assert series("deskvigil_host_filesystem_size_bytes", **labels) not in machine.tick().schema.index


def test_pressure_is_read_where_the_kernel_has_it(machine: Machine) -> None:
    frame = machine.tick()
    assert value(frame, "pressure_ratio", resource="io", kind="some") == pytest.approx(0.015)
    assert value(frame, "pressure_seconds_total", resource="cpu", kind="some") == pytest.approx(2.5)


def test_a_kernel_without_pressure_has_no_such_series(tmp_path: Path) -> None:
    frame = Machine(tmp_path, pressure=False).tick()
    assert not [one for one in frame.schema.series if "pressure" in one.name]
    assert value(frame, "sections_failed") == 0


def test_one_section_that_fails_loses_its_own_readings_only_and_is_logged_once(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.tick()
    machine.write("meminfo", "MemTotal: rubbish kB\n")
    with caplog.at_level(logging.WARNING, logger="collectors.host"):
        machine.tick()
        frame = machine.tick()
    assert math.isnan(value(frame, "memory_total_bytes"))
    assert value(frame, "sections_failed") == 1
    assert value(frame, "cpus") == 2
    assert len(caplog.records) == 1


def test_a_system_without_proc_is_said_in_words(tmp_path: Path) -> None:
    collector = HostCollector(ManualClock(), CollectorOptions(), tmp_path, proc=tmp_path / "none", sys=tmp_path)
    with pytest.raises(TransientError, match="cannot be read"):
        collector.collect(1)


def test_a_wall_clock_that_is_set_shows_as_a_step(machine: Machine) -> None:
    machine.tick()
    machine.clock.step_wall(3600 * 10**9)
    stepped, after = machine.tick(), machine.tick()
    assert value(stepped, "clock_step_seconds") == pytest.approx(3600)
    assert value(after, "clock_step_seconds") == 0
    assert value(after, "clock_steps_total") == 1


def test_cores_tell_their_clock_in_turn(tmp_path: Path) -> None:
    for core in (0, 1):
        path = tmp_path / "sys/devices/system/cpu" / f"cpu{core}" / "cpufreq/scaling_cur_freq"
        path.parent.mkdir(parents=True)
        path.write_text("3500000\n")
    machine = Machine(tmp_path)
    machine.tick()
    frame = machine.tick()
    assert [value(frame, "cpu_frequency_hertz", cpu=core) for core in "01"] == [3.5e9, 3.5e9]


def test_a_long_kernel_file_is_read_whole_and_anew(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * 200_000)
    file = ProcFile(path)
    assert len(file.read()) == 200_000
    path.write_bytes(b"short")
    assert file.read() == b"short"
    file.close()
    file.close()


def test_this_very_machine_can_be_read(tmp_path: Path) -> None:
    collector = HostCollector(SystemClock(), CollectorOptions(), tmp_path)
    collector.collect(1)
    frame = collector.collect(2)
    assert value(frame, "sections_failed") == 0
    assert len(frame.schema) >= 60
    assert value(frame, "memory_total_bytes") > 2**20
    ratios = [v for one, v in zip(frame.schema.series, frame.values, strict=True) if one.name.endswith("_ratio")]
    assert np.nanmin(ratios) >= 0
    assert np.nanmax(ratios) <= 1
    collector.close()
