package recovery

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/idguard"
)

// Backup is a backup of the catalog that was found on storages.
type Backup struct {
	store.EntityInfo
	At time.Time // the moment that it shows
	On []Storage
}

// Backups calls f for the backups that storages hold, the newest first, until f returns false. Those that show a later moment
// than before are passed over, unless it is zero. It asks for everything that is newer than what it finds, one entity after
// the other: some 100 000 a second from a disk of this machine. The errors are those of storages that failed; the others were asked all the same.
func Backups(ctx context.Context, list []Storage, before time.Time, f func(Backup) (more bool, err error)) (failed []error, err error) {
	failed, err = walk(ctx, list, 1, idguard.Beyond, true, func(h held) (bool, error) {
		info, err := describe(ctx, list, h)
		if errors.Is(err, store.ErrNoEntity) {
			return true, nil // what cannot be read is no backup to rely on
		}
		if err != nil {
			return false, err
		}
		at, ok := store.ParseBackupName(info.Name)
		if info.Bucket != store.CatalogBucket || !ok || !before.IsZero() && at.After(before) {
			return true, nil
		}
		b := Backup{EntityInfo: info, At: at}
		for _, i := range h.by {
			b.On = append(b.On, list[i])
		}
		return f(b)
	})
	return slices.DeleteFunc(failed, func(err error) bool { return err == nil }), err
}

// ErrBackup is that a backup's bytes are not whole: another one may be.
var ErrBackup = errors.New("recovery: backup is damaged")

// ReadBackup writes a backup, uncompressed, to a file that rewind empties: it is tried from one storage after the other. ErrBackup
// when none gave it whole.
func ReadBackup(ctx context.Context, b Backup, rewind func() (io.Writer, error)) error {
	problems := []error{fmt.Errorf("%w: %s", ErrBackup, b.Name)}
	for _, s := range b.On {
		w, err := rewind()
		if err != nil {
			return err
		}
		r, err := s.Device.Open(ctx, b.ID, 0, -1)
		if err == nil {
			err = errors.Join(Unzip(w, r), r.Close())
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrBackup) && !store.IsReadError(err) && !errors.Is(err, store.ErrNoEntity) || ctx.Err() != nil {
			return err
		}
		problems = append(problems, fmt.Errorf("storage %d: %w", s.ID, err))
	}
	return errors.Join(problems...)
}

// Unzip writes a compressed backup uncompressed. ErrBackup when it is not whole; any other error is w's.
func Unzip(w io.Writer, r io.Reader) error {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := zip.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBackup, err)
		}
	}
}
