"""The outside of `perf/emulated`: a virtual machine whose clock is its count of instructions.

QEMU without hardware help, with `-icount shift=0`, moves time by one nanosecond an instruction. The
guest boots a stock Debian kernel and sees this machine's file system, read-only below a scratch
layer in memory; only the directories of results are shared for writing.
"""

import glob
import lzma
import os
import re
import shlex
import shutil
import subprocess
import tempfile

# The newer kernel first: it has more of what the ring engine asks for.
KERNEL_PACKAGES = ("linux-image-6.12-amd64", "linux-image-amd64")
MODULES = ("9p", "9pnet_virtio", "overlay", "virtio_pci")
MEMORY = "3G"

# Copies by `rep movsb` would count an instruction a byte: without these two features the kernel and
# the C library copy by moves of 8 to 32 bytes, about what a CPU's counter would show for a short copy.
CPU = "max,-erms,-fsrm"

# The clock is taken at its word. What would only add instructions that a counter on hardware would not
# show (memory cleared by `rep stos` at each allocation), or chance, is off.
KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 tsc=reliable tsc_early_khz=1000000 clocksource=tsc lpj=4000000 "
    "no_timer_check nokaslr randomize_kstack_offset=off init_on_alloc=0 mitigations=off preempt=none "
    "audit=0 lsm=capability"
)

STATUS = "exit status of the measurement: "

INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in /modules/*; do busybox insmod $module; done
share="-t 9p -o trans=virtio,version=9p2000.L,msize=512000"
busybox mount $share,cache=loose,ro host /lower
busybox mount -t tmpfs tmpfs /upper
busybox mkdir /upper/data /upper/work
busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /new
{mounts}
busybox mount --move /proc /new/proc
busybox mount --move /sys /new/sys
busybox mount --move /dev /new/dev
busybox mkdir -p /new/dev/shm
busybox mount -t tmpfs tmpfs /new/dev/shm
busybox mount -t tracefs tracefs /new/sys/kernel/tracing
busybox ip link set lo up
busybox chroot /new /bin/sh -c {job}
echo "{status}$?"
busybox poweroff -f
"""


class Kernel:
    """A kernel and the modules a guest needs, from Debian's package; kept in the user's cache."""

    def __init__(self, package=None):
        self.package = newest_of((package,) if package else KERNEL_PACKAGES)
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.directory = os.path.join(cache, "lateen-emulated", self.package)
        self.image = os.path.join(self.directory, "vmlinuz")
        if not os.path.exists(self.image):
            self._unpack()

    @property
    def modules(self):
        return sorted(glob.glob(os.path.join(self.directory, "modules", "*")))

    def _unpack(self):
        os.makedirs(os.path.join(self.directory, "modules"), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lateen-kernel-") as work:
            print(f"downloading {self.package}", flush=True)
            if subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", self.package],
                              cwd=work).returncode:
                raise SystemExit(f"cannot download the Debian package {self.package}: try `apt-get update`")
            subprocess.run(["dpkg", "-x", *glob.glob(f"{work}/*.deb"), work], check=True)
            found = {}
            for path in glob.glob(f"{work}/**/*.ko*", recursive=True):
                found[os.path.basename(path).partition(".")[0].replace("-", "_")] = path
            loaded = {}
            for name in MODULES:
                load_order(name, found, loaded)
            for index, (name, data) in enumerate(loaded.items()):
                with open(os.path.join(self.directory, "modules", f"{index:02}-{name}.ko"), "wb") as file:
                    file.write(data)
            # Last, because its presence says that all is there.
            shutil.copy(glob.glob(f"{work}/boot/vmlinuz-*")[0], self.image)


def newest_of(packages):
    """The package with a version in its name that the first known one of `packages` depends on."""
    for package in packages:
        result = subprocess.run(["apt-cache", "depends", package], capture_output=True, text=True)
        match = re.search(r"Depends: (linux-image-\S+)", result.stdout)
        if match:
            return match[1]
    raise SystemExit(f"apt knows none of the packages {', '.join(packages)}: try `apt-get update`")


def load_order(name, found, loaded):
    """Adds the module to `loaded`, after those it needs; what is not found is built into the kernel."""
    if name in loaded or name not in found:
        return
    opener = lzma.open if found[name].endswith(".xz") else open
    with opener(found[name], "rb") as file:
        data = file.read()
    for needed in re.search(rb"\0depends=([^\0]*)\0", data)[1].decode().split(","):
        load_order(needed, found, loaded)
    loaded[name] = data


def run(kernel, directory, job, writable):
    """Boots a guest that runs the shell command `job` from the current directory; its exit status.
    `directory` is for files of this run, `writable` are the directories that the job may write to."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.path.expanduser("~"), "TMPDIR": "/dev/shm"}
    if target := os.environ.get("CARGO_TARGET_DIR"):
        environment["CARGO_TARGET_DIR"] = target
    words = [f"export {name}={shlex.quote(value)};" for name, value in environment.items()]
    command = f"{' '.join(words)} cd {shlex.quote(os.getcwd())} && {job}"
    initramfs = make_initramfs(kernel, directory, command, writable)
    qemu = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", "q35,accel=tcg", "-cpu", CPU, "-smp", "1", "-m", MEMORY,
            "-icount", "shift=0,sleep=off", "-serial", "stdio",
            "-kernel", kernel.image, "-initrd", initramfs, "-append", KERNEL_ARGUMENTS,
            *share("host", "/", ",readonly=on,multidevs=remap")]
    for index, path in enumerate(writable):
        qemu += share(f"out{index}", path, "")
    process = subprocess.Popen(qemu, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")
    status = 1
    try:
        for line in process.stdout:
            if line.startswith(STATUS):
                status = int(line.removeprefix(STATUS))
            else:
                print(line.rstrip(), flush=True)
        return process.wait() or status
    finally:
        process.kill()
        process.wait()


def share(tag, path, more):
    return ["-fsdev", f"local,id={tag},path={path},security_model=none{more}",
            "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def make_initramfs(kernel, directory, job, writable):
    tree = os.path.join(directory, "initramfs")
    for name in ("bin", "modules", "proc", "sys", "dev", "lower", "upper", "new"):
        os.makedirs(os.path.join(tree, name))
    shutil.copy(shutil.which("busybox"), os.path.join(tree, "bin", "busybox"))
    for path in kernel.modules:
        shutil.copy(path, os.path.join(tree, "modules"))
    mounts = [f"busybox mount $share out{index} {shlex.quote('/new' + path)}" for index, path in enumerate(writable)]
    init = os.path.join(tree, "init")
    with open(init, "w") as file:
        file.write(INIT.format(mounts="\n".join(mounts), job=shlex.quote(job), status=STATUS))
    os.chmod(init, 0o755)
    archive = os.path.join(directory, "initramfs.cpio")
    names = "\n".join(os.path.relpath(os.path.join(parent, name), tree)
                      for parent, directories, files in os.walk(tree) for name in directories + files)
    with open(archive, "wb") as file:
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=tree, input=names.encode(), stdout=file,
                       stderr=subprocess.DEVNULL, check=True)
    return archive
