-- Run by rpm after it has installed gmfs. The program acts as these commands when it is called by their names.
local targets = { ["/usr/sbin/"] = "../bin/gmfs", ["/usr/share/bash-completion/completions/"] = "gmfs" }
for directory, target in pairs(targets) do
    for _, name in ipairs({ "mkfs.gmfs", "fsck.gmfs", "mkfs.guestmemfs", "fsck.guestmemfs", "mount.gmfs", "mount.fuse.gmfs" }) do
        os.remove(directory .. name)
        posix.symlink(target, directory .. name)
    end
end
