#!/bin/sh
# Finishes the toolkit layer, inside the tree, after `make install`: what a Containerfile would run.
set -eu
systemd-sysusers
# Instances too: the preset names those of kairos-config@.service.
cd /usr/lib/systemd/system
systemctl --quiet preset $(ls -d kairos-*.service kairos-*.timer kairos-*.socket kairos-*.target 2>/dev/null)
kernel=$(ls /usr/lib/modules)
dracut --quiet --force --kver "$kernel" --add kairos "/usr/lib/modules/$kernel/initramfs.img"
rm -rf /var/tmp/* /var/log/* /var/lib/dracut
