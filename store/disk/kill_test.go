package disk

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"wheelhouse/store"
)

// killEnv makes this test binary a writer that is to be killed: it names the directory.
const killEnv = "WHEELHOUSE_DISK_KILL_TEST"

// TestMain is the writer of TestKill, when it is called by that.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// writeUntilKilled stores and deletes entities, and prints what has been acknowledged, until it is killed.
func writeUntilKilled(dir string) error {
	o := crashOptions(nil)
	d, err := Open(dir, o)
	if err != nil {
		return err
	}
	first, err := d.Manifest(background, 0, maxID, 1<<20)
	if err != nil {
		return err
	}
	base := store.ObjectID(1)
	if len(first) > 0 {
		base = first[len(first)-1].ID + 1000
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := store.ObjectID(0); ; i++ {
				id := base + i*8 + store.ObjectID(w)
				data := content(id, int(id*37%9000))
				if err := d.Put(context.Background(), entity(id, data), data); err != nil {
					return
				}
				mu.Lock()
				fmt.Println("put", id)
				mu.Unlock()
				if i%5 == 4 {
					old := id - 16
					mu.Lock()
					fmt.Println("deleting", old)
					mu.Unlock()
					if err := d.Delete(context.Background(), []store.ObjectID{old}); err != nil {
						return
					}
					mu.Lock()
					fmt.Println("deleted", old)
					mu.Unlock()
				}
				if w == 0 && i%20 == 19 {
					d.Compact(context.Background(), 0.1)
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKill kills a writing process (SIGKILL) again and again, and looks for all that it had acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	state := map[store.ObjectID]string{}
	for round := range 5 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), killEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for sc := bufio.NewScanner(out); sc.Scan(); lines++ {
			what, num, _ := strings.Cut(sc.Text(), " ")
			id, err := strconv.ParseUint(num, 10, 64)
			if err != nil {
				break // the last line, cut
			}
			state[store.ObjectID(id)] = what
			if lines == 150+50*round {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		if lines < 100 {
			t.Fatalf("round %d: only %d lines", round, lines)
		}
		d, err := Open(dir, crashOptions(nil))
		if err != nil {
			t.Fatal(err)
		}
		for id, what := range state {
			data := content(id, int(id*37%9000))
			switch err := checkContent(d, id, data); {
			case what == "put" && err != nil:
				t.Errorf("round %d: acknowledged, and not there: %v", round, err)
			case what == "deleted" && err == nil:
				t.Errorf("round %d: %d was deleted, and is there", round, id)
			}
		}
		if err := d.Scrub(t.Context(), 0, 0, func(id store.ObjectID, err error) { t.Error(err) }); err != nil {
			t.Error(err)
		}
		d.Close()
	}
}
