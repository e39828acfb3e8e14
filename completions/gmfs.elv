# Completion of gmfs for elvish. `gmfs completions elvish` prints this file.

use path
use str

fn -gmfs-complete {|@words|
  # The gmfs that is called; under its other names, the one that is installed.
  var gmfs = gmfs
  if (eq (path:base $words[0]) gmfs) {
    set gmfs = $words[0]
  }
  var lines = []
  try {
    set lines = [((external $gmfs) complete (- (count $words) 1) -- $@words 2>/dev/null)]
  } catch e { nop }
  if (eq $lines []) {
    nop
  } elif (has-value [:files :directories] $lines[0]) {
    edit:complete-filename $words[-1]
  } else {
    for line $lines {
      var word = [(str:split "\t" $line)]
      edit:complex-candidate $word[0] &display=(str:join '  ' $word)
    }
  }
}

for name [gmfs mkfs.gmfs fsck.gmfs mkfs.guestmemfs fsck.guestmemfs mount.gmfs mount.fuse.gmfs] {
  set edit:completion:arg-completer[$name] = $-gmfs-complete~
}
