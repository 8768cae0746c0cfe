package main

import (
	"os"
	"slices"
	"testing"
)

func TestCleanMappings(t *testing.T) {
	const smaps = `00400000-012e4000 r-xp 00000000 fe:00 5                          /bin/x
Size:              15248 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
012e4000-0226c000 r--p 00ee4000 fe:00 5                          /bin/x
Anonymous:             0 kB
0226c000-0226d000 r--p 01e6c000 fe:00 5                          /bin/x
Anonymous:             4 kB
0226d000-02331000 rw-p 01e6d000 fe:00 5                          /bin/x
Anonymous:             0 kB
02331000-02332000 r--s 01e6d000 fe:00 5                          /bin/x
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:00 6                  /lib/x.so
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00000000 00:00 0
Anonymous:             0 kB
zz-7f0000003000 r--p 00000000 fe:00 5                            /bin/x
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x12e4000}, {0x12e4000, 0x226c000}}
	if got := cleanMappings(smaps, "/bin/x"); !slices.Equal(got, want) {
		t.Errorf("%x; want %x", got, want)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if len(cleanMappings(string(own), exe)) == 0 {
		t.Errorf("nothing in\n%s", own)
	}
	trimProgram() // and all goes on
}
