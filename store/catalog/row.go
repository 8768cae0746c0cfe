package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// hasMissing is the bit of object.status that says that table missing has rows of the object.
const hasMissing = 1

// objectColumns are what scanObject reads, in its order.
const objectColumns = `o.id, o.cluster_id, o.size, o.etag, o.content_type, o.created, o.status, o.replicas, o.cache_control, o.meta`

// objectWidth is how many they are.
const objectWidth = 10

// selector is what both a reader and a transaction can do.
type selector interface {
	Select(query string) (*sqldb.Stmt, error)
}

// scanObject reads objectColumns, which begin at col, into o, except for Bucket, Name and Missing. It returns the status.
func (c *SQLite) scanObject(s selector, st *sqldb.Stmt, col int, o *store.Object) (status int64, err error) {
	o.ID = store.ObjectID(st.ColumnInt64(col))
	o.Cluster = store.ClusterID(st.ColumnInt64(col + 1))
	o.Size = st.ColumnInt64(col + 2)
	if n := st.ColumnBytes(col+3, o.ETag[:]); n != len(o.ETag) {
		return 0, fmt.Errorf("%w: object %d: etag of %d bytes", store.ErrCatalogDamage, o.ID, n)
	}
	if o.ContentType, err = c.types.text(s, st.ColumnInt64(col+4)); err != nil {
		return 0, err
	}
	o.Created = unixTime(st.ColumnInt64(col + 5))
	status = st.ColumnInt64(col + 6)
	o.Replicas = uint8(st.ColumnInt64(col + 7))
	o.CacheControl = st.ColumnText(col + 8)
	o.Meta = nil
	if n := st.ColumnLen(col + 9); n > 0 {
		b := make([]byte, n)
		st.ColumnBytes(col+9, b)
		if o.Meta, err = decodeMeta(b); err != nil {
			return 0, fmt.Errorf("%w: object %d: %w", store.ErrCatalogDamage, o.ID, err)
		}
	}
	return status, nil
}

// bindObject sets parameters ?1 to ?12 to the columns of table object in their order.
func bindObject(st *sqldb.Stmt, o *store.Object, contentType, status int64) {
	st.BindInt64(1, int64(o.Bucket))
	sqldb.BindString(st, 2, o.Name)
	st.BindInt64(3, int64(o.ID))
	st.BindInt64(4, int64(o.Cluster))
	st.BindInt64(5, o.Size)
	st.BindBytes(6, o.ETag[:])
	st.BindInt64(7, contentType)
	st.BindInt64(8, o.Created.Unix())
	st.BindInt64(9, status)
	st.BindInt64(10, int64(o.Replicas))
	bindOptional(st, 11, o)
}

// bindOptional sets cache_control and meta, NULL being the usual case.
func bindOptional(st *sqldb.Stmt, param int, o *store.Object) {
	if o.CacheControl != "" {
		st.BindText(param, o.CacheControl)
	} else {
		st.BindNull(param)
	}
	if len(o.Meta) > 0 {
		st.BindBytes(param+1, encodeMeta(o.Meta))
	} else {
		st.BindNull(param + 1)
	}
}

// missingOf reads which storages are owed an entity.
func missingOf(s selector, id store.ObjectID) ([]store.StorageID, error) {
	st, err := s.Select("SELECT storage_id FROM missing WHERE object_id=? ORDER BY storage_id")
	if err != nil {
		return nil, err
	}
	st.BindInt64(1, int64(id))
	var ids []store.StorageID
	for {
		row, err := st.Step()
		if err != nil || !row {
			return ids, err
		}
		ids = append(ids, store.StorageID(st.ColumnInt64(0)))
	}
}

// encodeMeta writes fields as length and bytes of the name, length and bytes of the value; lengths are uvarints.
func encodeMeta(fields []store.Field) []byte {
	var b []byte
	for _, f := range fields {
		b = binary.AppendUvarint(b, uint64(len(f.Name)))
		b = append(b, f.Name...)
		b = binary.AppendUvarint(b, uint64(len(f.Value)))
		b = append(b, f.Value...)
	}
	return b
}

var errMeta = errors.New("metadata is cut off")

// decodeMeta reads what encodeMeta writes. The fields share one string.
func decodeMeta(b []byte) ([]store.Field, error) {
	s := string(b)
	next := func() (string, error) {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return "", errMeta
		}
		off := len(s) - len(b) + w
		b = b[w+int(n):]
		return s[off : off+int(n)], nil
	}
	var fields []store.Field
	for len(b) > 0 {
		name, err := next()
		if err != nil {
			return nil, err
		}
		value, err := next()
		if err != nil {
			return nil, err
		}
		fields = append(fields, store.Field{Name: name, Value: value})
	}
	return fields, nil
}
