//! A guest for tests of virtual machines. It is so small that it runs at once in an emulator within an emulator: a firmware
//! of 64 KiB, without any other. It fills 1 MiB of its memory with numbers that differ from boot to boot. Then it writes
//! lines to its first serial port without end, each with a number, counted from 1, and the sum of that memory.
//!
//! The count is in a register and in memory. If they ever differ, the guest writes an exclamation mark: its processor goes
//! on with another memory than it had. A guest that has started anew counts from 1 again, and has another sum.

use std::fmt;

/// Bytes and instructions; numbers are hexadecimal. The first part is code of 16 bits at `0xf0000`.
const PROGRAM: &str = "\
    fa                cli
    31c0              xor ax, ax
    2e660f01162000    lgdt cs:[gdtr]
    0f20c0            mov eax, cr0
    0c01              or al, 1
    0f22c0            mov cr0, eax
    66ea40000f000800  jmp 8:flat                  (32 bits, flat segments)
    8db600000000      padding
    170028000f006690  gdtr: 24 bytes at 0xf0028
    0000000000000000  gdt: nothing
    ffff0000009acf00  8: code, 4 GiB
    ffff00000092cf00  16: data, 4 GiB
    66b81000          flat: mov ax,0x10
    8ed8              mov ds,eax
    8ec0              mov es,eax
    8ed0              mov ss,eax
    fc                cld
    be68000f00        mov esi,0xf0068             (code goes to 1 MiB, so that it is in the guest's memory, too)
    bf00001000        mov edi,0x100000
    b9df000000        mov ecx,0xdf
    f3a4              rep movsb
    bc00001800        mov esp,0x180000
    b800001000        mov eax,0x100000
    ffe0              jmp eax
    0f31              code: rdtsc                 (2 MiB to 3 MiB: numbers that differ from boot to boot)
    83c801            or eax,0x1
    bf00002000        mov edi,0x200000
    b900000400        mov ecx,0x40000
    89c2              0x77: mov edx,eax
    c1e20d            shl edx,0xd
    31d0              xor eax,edx
    89c2              mov edx,eax
    c1ea11            shr edx,0x11
    31d0              xor eax,edx
    89c2              mov edx,eax
    c1e205            shl edx,0x5
    31d0              xor eax,edx
    ab                stosd
    e2e8              loop 0x77
    31db              xor ebx,ebx
    891d00001100      mov ds:0x110000,ebx
    be00002000        round: mov esi,0x200000     (sum of those)
    b900000400        mov ecx,0x40000
    31ed              xor ebp,ebp
    ad                0xa3: lodsd
    c1c505            rol ebp,0x5
    31c5              xor ebp,eax
    e2f8              loop 0xa3
    391d00001100      cmp ds:0x110000,ebx         (the number of lines is in a register and in memory)
    7407              je 0xba
    b021              mov al,0x21                 ('!' says that they differ)
    e878000000        call out
    43                0xba: inc ebx
    891d00001100      mov ds:0x110000,ebx
    89da              mov edx,ebx
    e84e000000        call hex
    b020              mov al,0x20
    e863000000        call out
    89ea              mov edx,ebp
    e840000000        call hex
    b00a              mov al,0xa
    e855000000        call out
    81fb44332211      cmp ebx,0x11223344          (after so many lines, the guest suspends itself)
    75b2              jne round
    66baf80c          mov dx,0xcf8                (PCI 0:1.3: PMBASE)
    b8400b0080        mov eax,0x80000b40
    ef                out dx,eax
    66bafc0c          mov dx,0xcfc
    b801060000        mov eax,0x601
    ef                out dx,eax
    66baf80c          mov dx,0xcf8                (PCI 0:1.3: PMREGMISC)
    b8800b0080        mov eax,0x80000b80
    ef                out dx,eax
    66bafc0c          mov dx,0xcfc
    b001              mov al,0x1
    ee                out dx,al
    66ba0406          mov dx,0x604                (PM1a_CNT: S3)
    66b80024          mov ax,0x2400
    66ef              out dx,ax
    eb81              jmp round
    b908000000        hex: mov ecx,0x8
    c1c204            0x11b: rol edx,0x4
    88d0              mov al,dl
    240f              and al,0xf
    0430              add al,0x30
    3c39              cmp al,0x39
    7602              jbe 0x12a
    0427              add al,0x27
    e803000000        0x12a: call out
    e2ea              loop 0x11b
    c3                ret
    52                out: push edx
    88c4              mov ah,al
    66bafd03          mov dx,0x3fd
    ec                0x139: in al,dx
    a820              test al,0x20
    74fb              je 0x139
    88e0              mov al,ah
    66baf803          mov dx,0x3f8
    ee                out dx,al
    5a                pop edx
    c3                ret
";
/// In the program, the number of lines after which the guest suspends itself.
const SUSPEND: [u8; 4] = [0x44, 0x33, 0x22, 0x11];
/// The processor starts 16 bytes before the end: with a jump to the program.
const START: [u8; 5] = [0xea, 0x00, 0x00, 0x00, 0xf0];
/// Digits of a number.
const DIGITS: usize = 8;

/// The firmware, for QEMU's `-bios`. After `suspend` lines, the guest suspends itself to memory; with 0, never.
///
/// # Panics
/// Never: the program is constant.
#[must_use]
pub fn firmware(suspend: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in PROGRAM.lines() {
        let hex = line.split_whitespace().next().unwrap().as_bytes();
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap();
        bytes.extend(hex.chunks(2).map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).unwrap()));
    }
    let at = bytes.windows(4).position(|window| window == SUSPEND).unwrap();
    bytes[at..at + 4].copy_from_slice(&suspend.to_le_bytes());
    bytes.resize(0xfff0, 0);
    bytes.extend(START);
    bytes.resize(1 << 16, 0);
    bytes
}

/// What a guest has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The number of the first whole line.
    pub first: u32,
    /// The number of the last one.
    pub last: u32,
    /// The sum of its memory.
    pub sum: u32,
}

/// The output of a guest is not that of one that ran on without interruption.
#[derive(Debug)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest did not go on as it was: {}", self.0)
    }
}

impl std::error::Error for Broken {}

/// Reads a part of what a guest has written. The first and the last line may be cut.
///
/// # Errors
/// A number is missing or comes twice, the sum has changed, or the guest says so itself.
pub fn counted(output: &str) -> Result<Counted, Broken> {
    let mut found: Option<Counted> = None;
    let lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::trim_end);
    for (n, line) in lines.enumerate() {
        let broken = |why: &str| Broken(format!("{why}: '{line}' after {found:?}"));
        if line.contains('!') {
            return Err(broken("its count in memory is another one"));
        }
        let number = |text: &str| u32::from_str_radix(text, 16).ok().filter(|_| text.len() == DIGITS);
        let numbers = line.split_once(' ').and_then(|(count, sum)| Some((number(count)?, number(sum)?)));
        match (numbers, found) {
            (None, _) if n == 0 => {}
            (None, _) => return Err(broken("not a line of it")),
            (Some((count, sum)), None) => found = Some(Counted { first: count, last: count, sum }),
            (Some((count, sum)), Some(before)) if count == before.last + 1 && sum == before.sum => {
                found = Some(Counted { last: count, ..before });
            }
            _ => return Err(broken("not the next line")),
        }
    }
    found.ok_or_else(|| Broken("no whole line".to_owned()))
}

#[test]
fn output_that_is_broken_is_told_from_output_that_is_not() {
    let whole = "3 72e124c3\n00000014 72e124c3\n00000015 72e124c3\n000000";
    assert_eq!(counted(whole).unwrap(), Counted { first: 0x14, last: 0x15, sum: 0x72e1_24c3 });
    for (from, to) in [("15 ", "16 "), ("15 72", "15 73"), ("00000015", "!00000015"), ("00000015 ", "15 ")] {
        assert!(counted(&whole.replace(from, to)).is_err(), "{from} {to}");
    }
    assert!(counted("").is_err());
    assert_eq!(firmware(0).len(), 1 << 16);
    assert_ne!(firmware(0), firmware(1));
}
