#!/bin/busybox sh
# First process of the test guest. It makes a usable environment of busybox, loads the kernel modules that the harness
# packed, and then obeys: commands come in on the second serial port, one line each ("run ID BASE64"), and their output
# goes back the same way. The first serial port is the kernel's console and belongs to no protocol.
/bin/busybox mkdir -p /bin /sbin /proc /sys /dev /tmp
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

for module in /modules/*.ko; do
    [ -e "$module" ] && { insmod "$module" || echo "init: cannot load $module"; }
done

stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
# The empty line ends whatever a kernel before this one may have left half said.
printf '\ngmfs-vm ready %s\n' "$(cat /proc/sys/kernel/random/boot_id)" >&3

while read -r verb id payload <&3; do
    [ "$verb" = run ] || continue
    printf %s "$payload" | base64 -d >/tmp/.command
    echo "gmfs-vm begin $id" >&3
    (cd /tmp && exec sh /tmp/.command </dev/null >/tmp/.stdout 2>/tmp/.stderr 3>&-)
    status=$?
    base64 /tmp/.stdout >&3
    echo "gmfs-vm stderr $id" >&3
    base64 /tmp/.stderr >&3
    echo "gmfs-vm end $id $status" >&3
done
echo "init: the command line went away"
poweroff -f
