#!/bin/sh
# dracut's cmdline hook: there is a root, although root= is not on the kernel
# command line. With root= systemd would make a sysroot.mount of its own.

if [ -z "$root" ] && getarg kairos.image= > /dev/null; then
    # shellcheck disable=SC2034 # dracut reads them
    root=kairos rootok=1
    unset root_unset
fi
