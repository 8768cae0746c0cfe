package main

import (
	"bytes"
	"crypto/md5"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// A bit flips far inside a large file on a storage of another process, which finds it only when part of the body has been sent: who
// reads it gets the right bytes, and it is repaired, by that alone as well as by a scrub.
func TestRotInALargeFileElsewhere(t *testing.T) {
	for _, how := range []string{"read", "scrub"} {
		t.Run(how, func(t *testing.T) {
			s := startParts(t)
			body := make([]byte, 6<<20)
			for i := range body {
				body[i] = byte(i * 37 >> 5)
			}
			if status, err := request(http.DefaultClient, "PUT", s.url+"/b/large", body); err != nil || status != http.StatusCreated {
				t.Fatal(status, err)
			}
			eventually(t, "nothing is owed", func() bool { return statusOf(t, s.url).Totals.Missing == 0 })
			var files []string
			for _, n := range []string{"1", "2", "3"} {
				files = append(files, flipInside(t, filepath.Join(s.dir, "disks", n), body, 4<<20+77))
				if how == "scrub" || len(files) == 2 {
					break // one has it right
				}
			}
			repaired := func() bool {
				for _, file := range files {
					if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b[:len(body)], body) {
						return false
					}
				}
				return true
			}
			if repaired() {
				t.Fatal("nothing was damaged")
			}
			if how == "scrub" {
				s.run("scrub", "--storage", "1")
			}
			eventually(t, "it is repaired", func() bool {
				if how == "read" {
					if status, sum, err := fetchSum(s.url + "/b/large"); err != nil || status != http.StatusOK || sum != md5.Sum(body) {
						t.Fatalf("GET = %d, %v", status, err)
					}
				}
				return repaired()
			})
			for name := range s.running {
				s.running[name].stop()
			}
		})
	}
}

// flipInside flips a bit of the file below dir that begins with body, and names the file.
func flipInside(t *testing.T, dir string, body []byte, off int64) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) == ".tar" {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.HasPrefix(b, body) {
			found = path
			b[off] ^= 4
			err = os.WriteFile(path, b, 0o644)
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("no file in %s holds the object: %v", dir, err)
	}
	return found
}
