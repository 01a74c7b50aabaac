#!/bin/sh
# Finishes the base tree $1, outside of it, after mmdebstrap has installed the packages. Fetches one
# package more, $2, to the file $3.
set -eu
root=$1 extra=$2 file=$3

(cd "$root/tmp" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -qq download "$extra")
mv "$root"/tmp/"$extra"_*.deb "$file"

# The kernel belongs to its modules, where every bootable container keeps it; /boot is empty.
kernel=$(basename "$root"/usr/lib/modules/*)
mv "$root/boot/vmlinuz-$kernel" "$root/usr/lib/modules/$kernel/vmlinuz"
mv "$root/boot/config-$kernel" "$root/usr/lib/modules/$kernel/config"
rm -rf "$root"/boot/* "$root"/vmlinuz* "$root"/initrd.img*

# What a machine makes for itself at its first boot, and what belongs to the machine that builds.
rm -f "$root"/etc/ssh/ssh_host_*_key* "$root"/etc/hostname "$root"/etc/apt/apt.conf.d/99mmdebstrap
rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* # its mirror
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
: > "$root/etc/machine-id"
rm -rf "$root"/var/tmp/* "$root"/var/log/*
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old
rm -f "$root"/var/cache/ldconfig/aux-cache

# /etc and /var are as new as /usr: at boot nothing needs to be brought up to date (systemd's
# ConditionNeedsUpdate=), which would otherwise be done at each boot, and thrown away.
touch "$root/etc/.updated" "$root/var/.updated"

# An image is changed by its next version, not by timers on the node, and so is the boot loader.
chroot "$root" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer e2scrub_reap.service ssh.service systemd-boot-update.service systemd-timesyncd.service
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service ssh.socket
