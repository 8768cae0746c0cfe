package sqldb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"zombiezen.com/go/sqlite"
)

// fileFormat is what `PRAGMA user_version` says: how the file as a whole is organised. The versions of the schemas in it
// are rows of schema_component (migrate.go).
const fileFormat = 1

// The database header, https://www.sqlite.org/fileformat.html §1.3.
const (
	headerSize      = 100
	headerMagic     = "SQLite format 3\x00"
	offPageSize     = 16
	offUserVersion  = 60
	offApplication  = 68
	smallestDBPages = 1
)

// checkHeader looks at the first bytes of a file before SQLite does, for clearer errors. An empty file passes: it is a
// database that has not been written to. A file whose header is still in the write-ahead log alone does too.
func checkHeader(path string, application int32) error {
	f, err := os.Open(path)
	if err != nil {
		return fileError(path, err)
	}
	defer f.Close() // only read
	var h [headerSize]byte
	n, err := io.ReadFull(f, h[:])
	if n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Kind: ErrIO, Path: path, Advice: "check the disk and the kernel's log", Err: err}
	}
	if n < headerSize || string(h[:len(headerMagic)]) != headerMagic {
		return &Error{Kind: ErrDamaged, Path: path, Advice: "this is not an SQLite file: check the path; if it is right, " + damageAdvice}
	}
	fi, err := f.Stat()
	if err != nil {
		return fileError(path, err)
	}
	page := int64(binary.BigEndian.Uint16(h[offPageSize:]))
	if page == 1 {
		page = 65536
	}
	if page < 512 || page&(page-1) != 0 || fi.Size() < page*smallestDBPages {
		return &Error{Kind: ErrDamaged, Path: path, Advice: damageAdvice, Err: errors.New("its header makes no sense")}
	}
	if id := int32(binary.BigEndian.Uint32(h[offApplication:])); id != application && id != 0 {
		return foreign(path, id)
	}
	if binary.BigEndian.Uint32(h[offApplication:]) == 0 {
		return nil // not marked: prepareFile sees to it; its user_version is not ours
	}
	return checkFormat(path, int64(binary.BigEndian.Uint32(h[offUserVersion:])))
}

func foreign(path string, id int32) error {
	return &Error{
		Kind: ErrForeign, Path: path,
		Advice: "it is an SQLite database of another program; check the path", Err: fmt.Errorf("its application id is %#x", id),
	}
}

func checkFormat(path string, v int64) error {
	if v > fileFormat {
		return &Error{
			Kind: ErrNewer, Path: path, Advice: "use the program that wrote it, or a newer one",
			Err: fmt.Errorf("its format is %d, this program knows %d", v, fileFormat),
		}
	}
	return nil
}

// prepareFile checks what SQLite sees (the log may hold more than the file) and marks a new file as ours.
func (db *DB) prepareFile(ctx context.Context) error {
	if err := db.begin(ctx.Done()); err != nil {
		return err
	}
	err := db.markFile()
	if err == nil {
		return execScript(db.writer.conn, "COMMIT")
	}
	return errors.Join(err, execScript(db.writer.conn, "ROLLBACK"))
}

func (db *DB) markFile() error {
	c := db.writer.conn
	id, err := queryInt(c, "PRAGMA application_id")
	if err != nil {
		return err
	}
	format, err := queryInt(c, "PRAGMA user_version")
	if err != nil {
		return err
	}
	tables, err := queryInt(c, "SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return err
	}
	switch {
	case id == int64(db.opts.ApplicationID):
		return checkFormat(db.path, format)
	case id == 0 && tables != 0 && db.opts.Adopt:
		return execScript(c, schemaTable)
	case id != 0 || tables != 0:
		return foreign(db.path, int32(id))
	}
	return execScript(c, fmt.Sprintf(`PRAGMA application_id=%d; PRAGMA user_version=%d;`, db.opts.ApplicationID, fileFormat)+schemaTable)
}

// schemaTable holds the versions of the schemas; see migrate.go.
const schemaTable = "CREATE TABLE IF NOT EXISTS schema_component(name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;"

// queryInt runs a statement that returns one integer.
func queryInt(c *sqlite.Conn, q string) (int64, error) {
	st, err := c.Prepare(q)
	if err != nil {
		return 0, err
	}
	row, err := st.Step()
	if err != nil {
		return 0, err
	}
	var n int64
	if row {
		n = st.ColumnInt64(0)
	}
	return n, st.Reset()
}
