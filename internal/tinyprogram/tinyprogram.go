// Package tinyprogram makes programs of a few instructions, for benchmarks that measure how processes are started. The
// start of a compiled program would be measured with them.
package tinyprogram

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

// Code is what a program does, in instructions for amd64 and the system calls of Linux.
type Code []byte

var (
	// ExitZero ends with exit code 0.
	ExitZero = Code{
		0xb8, 0x3c, 0, 0, 0, // mov eax, exit
		0x31, 0xff, // xor edi, edi
		0x0f, 0x05, // syscall
	}
	// ExitOne ends with exit code 1.
	ExitOne = Code{
		0xb8, 0x3c, 0, 0, 0, // mov eax, exit
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0x0f, 0x05, // syscall
	}
	// Sleep ends with exit code 0 after 3 s.
	Sleep = append(Code{
		0x6a, 0, 0x6a, 3, // push 0; push 3
		0x48, 0x89, 0xe7, // mov rdi, rsp
		0x31, 0xf6, // xor esi, esi
		0xb8, 0x23, 0, 0, 0, // mov eax, nanosleep
		0x0f, 0x05, // syscall
	}, ExitZero...)
	// NoteTheTime writes the time at which it has started, as TimeOf reads it: seconds and nanoseconds since 1970,
	// each as 16 letters from A to P for half a byte, the lowest first.
	NoteTheTime = append(Code{
		0xb8, 0xe4, 0, 0, 0, // mov eax, clock_gettime
		0x31, 0xff, // xor edi, edi: CLOCK_REALTIME
		0x48, 0x8d, 0x74, 0x24, 0xf0, // lea rsi, [rsp-16]
		0x0f, 0x05, // syscall
		0x31, 0xc9, // xor ecx, ecx
		0x8a, 0x44, 0x0c, 0xf0, // next: mov al, [rsp+rcx-16]
		0x88, 0xc2, // mov dl, al
		0x24, 0x0f, // and al, 15
		0x04, 'A', // add al, 'A'
		0x88, 0x44, 0x4c, 0xc0, // mov [rsp+rcx*2-64], al
		0xc0, 0xea, 0x04, // shr dl, 4
		0x80, 0xc2, 'A', // add dl, 'A'
		0x88, 0x54, 0x4c, 0xc1, // mov [rsp+rcx*2-63], dl
		0xff, 0xc1, // inc ecx
		0x83, 0xf9, 0x10, // cmp ecx, 16
		0x75, 0xe1, // jne next
		0xb8, 1, 0, 0, 0, // mov eax, write
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0x48, 0x8d, 0x74, 0x24, 0xc0, // lea rsi, [rsp-64]
		0xba, 32, 0, 0, 0, // mov edx, 32
		0x0f, 0x05, // syscall
	}, ExitZero...)
)

// Write makes a static program of that code. It is an error where such a program does not run.
func Write(path string, code Code) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("programs of a few instructions are for linux/amd64, and this is %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	const address, headers = 0x400000, 64 + 56
	size := uint64(headers + len(code))
	var elf bytes.Buffer
	elf.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, field := range []any{
		uint16(2), uint16(62), uint32(1), uint64(address + headers), uint64(64), uint64(0),
		uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		// One segment to read and execute, which is all of the file.
		uint32(1), uint32(5), uint64(0), uint64(address), uint64(address), size, size, uint64(4096),
		[]byte(code),
	} {
		if err := binary.Write(&elf, binary.LittleEndian, field); err != nil {
			return err
		}
	}
	return os.WriteFile(path, elf.Bytes(), 0o755) //nolint:gosec // a program
}

// TimeOf reads what NoteTheTime has written.
func TimeOf(output string) (time.Time, error) {
	if len(output) != 32 {
		return time.Time{}, fmt.Errorf("the program wrote %s, not a time", strconv.Quote(output))
	}
	var fields [2]int64
	for i := range fields {
		for half := range 16 {
			letter := output[16*i+half]
			if letter < 'A' || letter > 'P' {
				return time.Time{}, fmt.Errorf("the program wrote %s, not a time", strconv.Quote(output))
			}
			fields[i] |= int64(letter-'A') << (4 * half)
		}
	}
	return time.Unix(fields[0], fields[1]), nil
}
