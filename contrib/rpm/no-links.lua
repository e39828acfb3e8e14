-- Run by rpm before it removes gmfs; arg[2] is how many versions stay installed.
if tonumber(arg[2]) == 0 then
    for _, directory in ipairs({ "/usr/sbin/", "/usr/share/bash-completion/completions/" }) do
        for _, name in ipairs({ "mkfs.gmfs", "fsck.gmfs", "mkfs.guestmemfs", "fsck.guestmemfs", "mount.gmfs", "mount.fuse.gmfs" }) do
            os.remove(directory .. name)
        end
    end
end
