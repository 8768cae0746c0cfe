package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The wall clock of a single process cannot be set from outside. So the program is built once more for these runs, with one
// change, and that in the Go library: time.Now adds a number of seconds that lies in a file. Everything in the process sees its
// wall clock jump then, and nothing sees the monotonic clock do so, as when somebody sets a machine's clock.

// clockEnv names the file, of eight bytes, to a process that is built so.
const clockEnv = "SOAK_CLOCK"

const (
	nowBefore = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {"
	nowAfter  = "\tsec, nsec, mono := runtimeNow()\n\tif soakClock != nil {\n\t\tsec += *soakClock\n\t}\n\tif mono == 0 {"
	clockFile = `package time

import (
	"syscall"
	"unsafe"
)

var soakClock *int64

func init() {
	name, ok := syscall.Getenv("` + clockEnv + `")
	if !ok {
		return
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	data, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	soakClock = (*int64)(unsafe.Pointer(&data[0]))
}
`
)

// buildWithClock builds the program, in the current directory's module, so that its clock can be made to jump.
func buildWithClock(dir string) (program string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(src, "time.go"))
	if err != nil {
		return "", err
	}
	if bytes.Count(text, []byte(nowBefore)) != 1 {
		return "", errors.New("time.Now of this Go version is not written as expected")
	}
	files := map[string]string{
		filepath.Join(src, "time.go"): strings.Replace(string(text), nowBefore, nowAfter, 1),
		filepath.Join(src, "soak.go"): clockFile,
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range files {
		overlay.Replace[path] = filepath.Join(dir, "overlay-"+filepath.Base(path))
		if err := os.WriteFile(overlay.Replace[path], []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, list, 0o644); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "wheelhouse")
	return program, tool("go", "build", "-overlay", name, "-o", program, "./cmd/wheelhouse")
}

// setClock makes the clock of the process that reads a file differ by so many seconds.
func setClock(file string, seconds int64) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644) // in place: it is mapped
	if err != nil {
		return err
	}
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], uint64(seconds))
	_, err = f.WriteAt(b[:], 0)
	return errors.Join(err, f.Close())
}
