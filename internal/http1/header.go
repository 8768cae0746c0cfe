package http1

import (
	"iter"
	"strings"
	"unsafe"
)

// Field is one field line: name and value byte for byte, without the white space around the value.
type Field struct{ Name, Value []byte }

// Header is an ordered list of field lines. Lookups ignore ASCII case and scan the list: it is short. The zero value is
// an empty header. A Header must not be copied after its first use; it is not safe for concurrent use.
//
// Names and values that come in by Set, Add and the like are copied into storage of the header's own, which Reset keeps,
// so that a header in steady use does not allocate.
type Header struct {
	fields []Field
	store  []byte
}

// keepStore is the most bytes of copies that Reset keeps for reuse, keepFields the most field slots.
const (
	keepStore  = 8 << 10
	keepFields = 256
)

// Get is the first value of name, "" when there is none.
func (h *Header) Get(name string) string { return string(h.Bytes(name)) }

// Bytes is the first value of name without allocation, nil when there is none. An empty value is not nil.
func (h *Header) Bytes(name string) []byte {
	for i := range h.fields {
		if foldEqual(h.fields[i].Name, name) {
			return h.fields[i].Value
		}
	}
	return nil
}

// Has reports whether there is a field of that name.
func (h *Header) Has(name string) bool { return h.Bytes(name) != nil }

// Values are all values of name, in order.
func (h *Header) Values(name string) []string {
	var vs []string
	for _, f := range h.fields {
		if foldEqual(f.Name, name) {
			vs = append(vs, string(f.Value))
		}
	}
	return vs
}

// Joined is all values of name, joined by ", " (RFC 9110 §5.3).
func (h *Header) Joined(name string) string { return strings.Join(h.Values(name), ", ") }

// Set replaces all fields of that name by one, at the place of the first.
//
// In Set and all that add: octets that a value must not hold (controls: CR, LF, NUL among them) become spaces, those
// that a name must not hold become '_', so that nothing that comes from outside can end a line. A field without a
// name is dropped.
func (h *Header) Set(name, value string) { h.set(name, view(value)) }

// SetBytes is [Header.Set] of a value that is copied.
func (h *Header) SetBytes(name string, value []byte) { h.set(name, value) }

// Add appends a field.
func (h *Header) Add(name, value string) { h.add(view(name), view(value)) }

// AddBytes appends a field, of which it takes copies.
func (h *Header) AddBytes(name, value []byte) { h.add(name, value) }

// AddAll appends copies of all fields of src.
func (h *Header) AddAll(src *Header) {
	h.AddSome(src, func([]byte) bool { return true })
}

// AddSome appends copies of those fields of src whose names take is true for. They are not looked at again: what a Header holds was
// parsed, or mended when it was added.
func (h *Header) AddSome(src *Header, take func(name []byte) bool) {
	for _, f := range src.fields {
		if !take(f.Name) {
			continue
		}
		i, n := len(h.store), len(f.Name)
		h.store = append(append(h.store, f.Name...), f.Value...)
		both := h.store[i:]
		h.fields = append(h.fields, Field{both[:n:n], both[n:len(both):len(both)]})
	}
}

// view is a string's bytes, without a copy. They must not be written to, nor kept.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func (h *Header) set(name string, value []byte) {
	for i := range h.fields {
		if foldEqual(h.fields[i].Name, name) {
			h.fields[i].Value = h.keep(value, inValue, ' ')
			h.remove(i+1, name)
			return
		}
	}
	h.add(view(name), value)
}

func (h *Header) add(name, value []byte) {
	if len(name) == 0 {
		return
	}
	n := h.keep(name, inToken, '_')
	h.fields = append(h.fields, Field{n, h.keep(value, inValue, ' ')})
}

// keep copies s into the header's storage, octets outside class m replaced by r. When the storage must grow, earlier
// fields go on pointing into the old array. It is not generic over strings and bytes, because then s would escape, and each
// caller's scratch buffer with it.
func (h *Header) keep(s []byte, m, r byte) []byte {
	i := len(h.store)
	h.store = append(h.store, s...)
	b := h.store[i:len(h.store):len(h.store)]
	for j, c := range b {
		if class[c]&m == 0 {
			b[j] = r
		}
	}
	if b == nil {
		b = []byte{} // an empty value is a value
	}
	return b
}

// Del removes all fields of that name.
func (h *Header) Del(name string) { h.remove(0, name) }

func (h *Header) remove(from int, name string) {
	for from < len(h.fields) && !foldEqual(h.fields[from].Name, name) {
		from++
	}
	if from >= len(h.fields) {
		return
	}
	kept := h.fields[:from]
	for _, f := range h.fields[from+1:] {
		if !foldEqual(f.Name, name) {
			kept = append(kept, f)
		}
	}
	clear(h.fields[len(kept):])
	h.fields = kept
}

// Reset empties the header. It keeps its storage, unless that has grown large.
func (h *Header) Reset() {
	if cap(h.store) > keepStore {
		h.store = nil
	}
	if cap(h.fields) > keepFields {
		h.fields = nil
	}
	h.fields, h.store = h.fields[:0], h.store[:0]
}

// Len is the number of field lines.
func (h *Header) Len() int { return len(h.fields) }

// At is the field line at i, which must be less than Len.
func (h *Header) At(i int) (name, value []byte) { return h.fields[i].Name, h.fields[i].Value }

// All yields the field lines in order.
func (h *Header) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for _, f := range h.fields {
			if !yield(f.Name, f.Value) {
				return
			}
		}
	}
}
