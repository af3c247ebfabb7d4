#!/bin/busybox sh
# The first process of the machine that rdma_vm.py boots. It is started twice: by the kernel, from
# the archive that rdma_vm.py made, and then from the file system that it put together.
# shellcheck shell=dash

b() { "$busybox" "$@"; }

die() {
  echo "rdma_vm: $*" >/dev/console
  b poweroff -f
}

load_modules() {
  while read -r module; do
    b insmod "/modules/$module.ko" || die "module $module cannot be loaded"
  done </modules/order
}

# The host's file system, with what is written kept in memory.
assemble_root() {
  options=trans=virtio,version=9p2000.L,msize=262144
  b mkdir -p /host /memory /root
  b mount -t 9p -o "$options,ro,cache=loose" root /host || die "the host's files are not there"
  b mount -t tmpfs -o size=75% none /memory
  b mkdir /memory/upper /memory/work
  b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work none /root ||
    die "no overlay"
  b mount -t proc none /root/proc
  b mount -t sysfs none /root/sys
  b mount -t devtmpfs none /root/dev
  b mkdir -p /root/dev/pts /root/dev/shm
  b mount -t devpts none /root/dev/pts
  b mount -t tmpfs -o mode=1777 none /root/dev/shm
  b mount -t tmpfs -o mode=755 none /root/run
  for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
    [ -e "/root/dev/${link%%:*}" ] || b ln -s "${link#*:}" "/root/dev/${link%%:*}"
  done
  while read -r tag directory; do
    b mount -t 9p -o "$options,cache=mmap" "$tag" "/root$directory" ||
      die "$directory cannot be shared"
  done </shares
  b mkdir -p /root/run/lock /root/run/vm
  b cp /bin/busybox /init /command.sh /root/run/vm/
}

# Devices of one machine talk to each other over the wire, not over loopback.
make_devices() {
  for scope in all default; do
    echo 1 >/proc/sys/net/ipv4/conf/$scope/accept_local
    echo 0 >/proc/sys/net/ipv4/conf/$scope/rp_filter
    echo 1 >/proc/sys/net/ipv4/conf/$scope/arp_ignore
    echo 2 >/proc/sys/net/ipv4/conf/$scope/arp_announce
    echo 0 >/proc/sys/net/ipv6/conf/$scope/accept_dad
  done
  mtu=4500 # room for RDMA's own 4096
  ip link set lo up
  { ip link add bridge0 type bridge && ip link set bridge0 mtu $mtu up; } || die "no bridge"
  device=0
  # shellcheck disable=SC2154
  while [ $device -lt "$te_nics" ]; do
    { ip link add eth$device mtu $mtu type veth peer name port$device mtu $mtu &&
        ip link set port$device master bridge0 up &&
        ip link set eth$device up &&
        ip addr add 10.77.0.$((device + 1))/24 dev eth$device &&
        rdma link add rxe$device type rxe netdev eth$device; } ||
      die "no device rxe$device"
    device=$((device + 1))
  done
}

port() {
  for candidate in /sys/class/virtio-ports/*; do
    [ "$(b cat "$candidate/name")" = "$1" ] && echo "/dev/${candidate##*/}"
  done
}

# A pipe before the port: a port can be opened once only, and `echo >/dev/stderr` would do it again.
run_command() {
  b mkfifo /run/vm/output
  b cat /run/vm/output >"$(port output)" &
  printer=$!
  b setsid /bin/bash /run/vm/command.sh </dev/null >/run/vm/output 2>&1 &
  wait $!
  status=$?
  # What it left behind would keep the pipe open.
  for process in /proc/[0-9]*; do
    process=${process#/proc/}
    [ "$process" -gt 1 ] && [ "$process" -ne "$printer" ] &&
      [ -n "$(b cat "/proc/$process/cmdline" 2>/dev/null)" ] && kill -9 "$process" 2>/dev/null
  done
  wait $printer
  b sync
  echo $status >"$(port status)"
  b poweroff -f
}

if [ "${1-}" = second ]; then
  busybox=/run/vm/busybox
  export PATH=/usr/sbin:/usr/bin:/sbin:/bin
  make_devices
  echo "rdma_vm: up" >/dev/console # rdma_vm.py waits for it
  run_command
fi
busybox=/bin/busybox
b mkdir -p /proc /sys /dev
b mount -t proc none /proc
b mount -t sysfs none /sys
b mount -t devtmpfs none /dev 2>/dev/null
if [ -n "${te_probe-}" ]; then
  echo "rdma_vm: alive" >/dev/console
  b poweroff -f
fi
load_modules
assemble_root
# The host's own shell: busybox's would take its own `ip` for the host's.
exec "$busybox" switch_root /root /bin/sh /run/vm/init second
