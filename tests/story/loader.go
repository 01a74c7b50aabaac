package story

// OlderLoader is a script that puts an older systemd-boot on the ESP than the image carries: that of the
// image with another version in it, which stays in /usr/local/older.efi.
const OlderLoader = `set -e
carried=/usr/lib/systemd/boot/efi/systemd-bootx64.efi older=/usr/local/older.efi
LC_ALL=C sed -b 's/systemd-boot 257/systemd-boot 157/g; s/2\x005\x007\x00\.\x00/1\x005\x007\x00.\x00/g' $carried > $older
if cmp -s $carried $older; then echo nothing was changed >&2; exit 1; fi
mount -o remount,rw /efi
cp $older /efi/EFI/systemd/systemd-bootx64.efi
cp $older /efi/EFI/BOOT/BOOTX64.EFI
sync`
