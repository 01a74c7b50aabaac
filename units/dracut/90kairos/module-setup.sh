#!/bin/bash
# dracut module of the kairos toolkit: kairos-root, the node's config, and the keys
# of its encrypted volumes, in the initrd. Works with dracut 059 and later; systemd is needed.
#
# It is for images of nodes and comes into an initrd that asks for it alone:
# dracut --add kairos, or add_dracutmodules+=" kairos " in dracut.conf(5). A
# machine that has the toolkit installed keeps the initrd that it has. In an
# initrd everything asks for kairos.image= on the kernel command line first.

# Where the toolkit's programs are; make install writes it.
bindir=/usr/bin
[[ :$PATH: == *:$bindir:* ]] || PATH=$PATH:$bindir

# called by dracut
check() {
    require_binaries kairos-root || return 1
    return 255
}

# encrypts says whether volumes can be unlocked: cryptsetup does that for
# kairos-crypt.
encrypts() {
    find_binary kairos-crypt > /dev/null && find_binary cryptsetup > /dev/null &&
        [[ -e $dracutsysrootdir$systemdsystemunitdir/kairos-crypt-unlock@.service ]]
}

# called by dracut
depends() {
    echo systemd-initrd dracut-systemd
    # Device mapper's udev rules, and who asks for the recovery key.
    ! encrypts || echo dm systemd-ask-password
}

# called by dracut
installkernel() {
    # The file systems of a deployment, and the firmware's variables.
    hostonly='' instmods erofs overlay ext4 loop efivarfs
    # The boot entries, where a failed boot is counted.
    hostonly='' instmods vfat nls_cp437 nls_ascii nls_iso8859-1 nls_utf8
    # fs-verity takes the fastest SHA-256 that is there when the store is
    # mounted, and keeps it: the processor's, which kairos-root.service loads.
    hostonly='' instmods sha256_ssse3 sha256_ce sha2_ce sha256_arm64
    # Where a disk may be. An image boots on machines that nobody knows when its
    # initrd is made. dracut's kernel-modules brings many of them; these must be.
    hostonly='' instmods \
        virtio_blk virtio_pci virtio_mmio virtio_scsi nvme ahci sd_mod sr_mod \
        usb-storage uas xhci_pci xhci_plat_hcd ehci_pci ehci_platform \
        mmc_block sdhci_pci sdhci_acpi hv_storvsc hv_vmbus vmw_pvscsi xen-blkfront
    # A live medium: a CD, or what UEFI fetched by HTTP, which is memory of the
    # firmware's.
    hostonly='' instmods cdrom nfit libnvdimm nd_pmem
    # What cryptsetup formats with by default, on any processor, and TPMs.
    ! encrypts || hostonly='' instmods dm_crypt xts ecb cbc essiv aes_generic aesni_intel \
        aes_arm64 aes_ce_blk aes_neon_blk af_alg algif_skcipher algif_hash \
        tpm_crb tpm_tis tpm_tis_spi tpm_tis_i2c tpm_ftpm_tee
}

# need_unit makes initrd-root-fs.target depend on a unit: "requires" or "wants".
need_unit() {
    local dir="$initdir$systemdsystemunitdir/initrd-root-fs.target.$1"
    mkdir -p "$dir"
    ln -sf "$systemdsystemunitdir/${3:-$2}" "$dir/$2"
}

# drop_in adds a file of this module to a unit of the initrd.
drop_in() {
    inst_simple "$moddir/$1" "$systemdsystemunitdir/$2.d/50-kairos.conf"
}

# called by dracut
install() {
    inst_multiple kairos-root
    # Without it a damaged file system is not repaired, but said.
    inst_multiple -o e2fsck

    inst_multiple \
        "$systemdsystemunitdir/kairos-root.service" \
        "$systemdsystemunitdir/kairos-root-writable.service" \
        "$systemdsystemunitdir/kairos-root-failed.service"
    need_unit requires kairos-root.service
    need_unit requires kairos-root-writable.service
    drop_in root-fs.conf initrd-root-fs.target

    local unit
    for unit in emergency.service rescue.service dracut-emergency.service; do
        drop_in emergency.conf "$unit"
    done

    if find_binary kairos-config > /dev/null && [[ -e $dracutsysrootdir$systemdsystemunitdir/kairos-config@.service ]]; then
        inst_multiple kairos-config "$systemdsystemunitdir/kairos-config@.service"
        local stage
        for stage in rootfs initramfs; do
            need_unit wants "kairos-config@$stage.service" kairos-config@.service
            drop_in config.conf "kairos-config@$stage.service"
            inst_simple "$moddir/config-$stage.conf" \
                "$systemdsystemunitdir/kairos-config@$stage.service.d/60-order.conf"
        done
    fi

    # In the initrd, too, systemd reboots when it crashes or stands still.
    local settings=/usr/lib/kairos/node/systemd/system.conf.d/50-kairos.conf
    [[ ! -f $dracutsysrootdir$settings ]] || inst_simple "$settings" "$systemdutildir/system.conf.d/50-kairos.conf"

    if encrypts; then
        # kairos-root starts the unit, once for each volume.
        inst_multiple kairos-crypt cryptsetup "$systemdsystemunitdir/kairos-crypt-unlock@.service"
        inst_multiple -o "$systemdsystemunitdir/cryptsetup.target" "$systemdsystemunitdir/cryptsetup-pre.target" \
            "$systemdsystemunitdir/blockdev@.target"
        # Opened when threads end: of argon2id, which slows passphrases down.
        inst_libdir_file "libgcc_s.so*"
        # The image's settings; those of the node are on a volume that is locked still.
        for settings in "$dracutsysrootdir"{/etc,/usr/lib}/kairos/crypt.conf{,.d/*.conf}; do
            [[ ! -f $settings ]] || inst_simple "${settings#"$dracutsysrootdir"}"
        done
    fi

    inst_hook cmdline 30 "$moddir/parse-kairos.sh"
}
