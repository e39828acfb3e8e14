# Completion of gmfs for PowerShell 7. `gmfs completions powershell` prints this file.

Register-ArgumentCompleter -Native -CommandName gmfs, mkfs.gmfs, fsck.gmfs, mkfs.guestmemfs, fsck.guestmemfs, mount.gmfs, mount.fuse.gmfs -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    # The words before the cursor, without the one that is being typed, and then that one.
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    # The gmfs that is called; under its other names, the one that is installed.
    $gmfs = if ((Split-Path -Leaf $words[0]) -eq 'gmfs') { $words[0] } else { 'gmfs' }
    $lines = @(& $gmfs complete $words.Count '--' @words "$wordToComplete" 2>$null)
    if ($lines.Count -gt 0 -and $lines[0] -in ':files', ':directories') {
        # Nothing is offered, and PowerShell completes names of files by itself.
        return
    }
    foreach ($line in $lines) {
        $word, $meaning = $line -split "`t", 2
        $tip = if ($meaning) { $meaning } else { $word }
        [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $tip)
    }
}
