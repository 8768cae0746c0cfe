package dispatcher

import (
	"fmt"
	"os"
)

// spool keeps what a client has sent of a large body, for a second try. The file has no name, so that nothing is left of
// it however the process ends.
type spool struct{ f *os.File }

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "wheelhouse-spool-")
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &spool{f}, nil
}

func (s *spool) write(b []byte) error {
	_, err := s.f.Write(b)
	return err
}

func (s *spool) readAt(b []byte, off int64) (int, error) { return s.f.ReadAt(b, off) }

func (s *spool) close() { _ = s.f.Close() }
