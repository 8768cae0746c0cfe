// Package config reads one strict TOML file into a struct, and lets environment variables and flags override it.
//
// The struct is the whole description: each field has a toml tag (its key) and a doc tag (one line for an operator), and
// its value before loading is the default. Keys are written with their section: dispatcher.listen. The environment
// variable of a key is the prefix and the key in upper case with underscores: WHEELHOUSE_DISPATCHER_LISTEN. Later sources
// win: defaults, file, environment, flags. A key that does not exist is an error wherever it comes from, with its line
// where it has one.
package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Key is one thing that can be configured.
type Key struct {
	Name    string // dispatcher.listen
	Env     string // WHEELHOUSE_DISPATCHER_LISTEN; "" for keys that only the file can set
	Type    string // as an operator would say it: "text", "number", "yes or no", "duration", "size", "list of text"
	Default string // as it would stand in the file
	Doc     string
	field   reflect.Value
}

// Keys lists the keys of dst, a pointer to a struct, in the order of its fields. prefix begins the names of environment
// variables.
func Keys(dst any, prefix string) []Key {
	var keys []Key
	walk(reflect.ValueOf(dst).Elem(), "", prefix, &keys)
	return keys
}

func walk(v reflect.Value, section, prefix string, keys *[]Key) {
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Tag.Get("toml")
		if name == "" || name == "-" {
			continue
		}
		full := section + name
		if f.Kind() == reflect.Struct && !isText(f) {
			walk(f, full+".", prefix, keys)
			continue
		}
		k := Key{Name: full, Doc: v.Type().Field(i).Tag.Get("doc"), Type: typeName(f), Default: format(f), field: f}
		if f.Kind() != reflect.Slice || f.Type().Elem().Kind() == reflect.String {
			k.Env = prefix + strings.ToUpper(strings.ReplaceAll(full, ".", "_"))
		}
		*keys = append(*keys, k)
	}
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

func typeName(v reflect.Value) string {
	if n, ok := v.Addr().Interface().(interface{ ConfigType() string }); ok {
		return n.ConfigType()
	}
	switch v.Kind() {
	case reflect.Bool:
		return "yes or no"
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return "number"
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			return "list of text"
		}
		return "list of tables"
	}
	return "text"
}

func format(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return err.Error()
		}
		return strconv.Quote(string(b))
	}
	switch v.Kind() {
	case reflect.String:
		return strconv.Quote(v.String())
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.String {
			return "[]"
		}
		quoted := make([]string, v.Len())
		for i := range quoted {
			quoted[i] = strconv.Quote(v.Index(i).String())
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return fmt.Sprint(v.Interface())
}

// LoadFile reads a TOML file over what dst holds. Errors name the file, the line, and the key.
func LoadFile(dst any, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	err = toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(dst)
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var problems []error
		for i := range strict.Errors {
			row, _ := strict.Errors[i].Position()
			problems = append(problems, fmt.Errorf("%s:%d: unknown key %q (see: wheelhouse config describe)",
				path, row, strings.Join(strict.Errors[i].Key(), ".")))
		}
		return errors.Join(problems...)
	}
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, col := bad.Position()
		reason := strings.TrimPrefix(bad.Error(), "toml: ")
		if strings.HasPrefix(reason, "cannot decode") { // the library's words name Go types, which help no operator
			reason = "a value of another type is wanted"
		}
		if k, ok := keyAt(dst, string(text), row); ok {
			reason = fmt.Sprintf("%s (%s): %s", k.Name, k.Type, reason)
		}
		return fmt.Errorf("%s:%d:%d: %s", path, row, col, reason)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// keyAt finds the key that is set on a row (from 1) of a TOML text.
func keyAt(dst any, text string, row int) (Key, bool) {
	lines := strings.Split(text, "\n")
	if row < 1 || row > len(lines) {
		return Key{}, false
	}
	name, _, _ := strings.Cut(lines[row-1], "=")
	name = strings.TrimSpace(name)
	for i := row - 2; i >= 0; i-- {
		if header := strings.TrimSpace(lines[i]); strings.HasPrefix(header, "[") {
			name = strings.Trim(header, "[] \r") + "." + name
			break
		}
	}
	for _, k := range Keys(dst, "") {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

// ApplyEnv sets the keys that environment variables name. environ has the form of os.Environ. A variable that begins with
// prefix and names no key is an error, unless it is in ignore.
func ApplyEnv(keys []Key, prefix string, environ []string, ignore ...string) error {
	byEnv := map[string]Key{}
	for _, k := range keys {
		if k.Env != "" {
			byEnv[k.Env] = k
		}
	}
	skip := map[string]bool{}
	for _, name := range ignore {
		skip[name] = true
	}
	var problems []error
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, prefix) || skip[name] {
			continue
		}
		k, ok := byEnv[name]
		if !ok {
			problems = append(problems, fmt.Errorf("environment variable %s: no such key", name))
			continue
		}
		if err := k.Set(value); err != nil {
			problems = append(problems, fmt.Errorf("environment variable %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

// SetKey sets the key of that name from text.
func SetKey(keys []Key, name, value string) error {
	for _, k := range keys {
		if k.Name == name {
			if err := k.Set(value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}
	}
	return fmt.Errorf("%s: no such key (see: wheelhouse config describe)", name)
}

// Set gives the key a value, written as in an environment variable: lists are separated by commas.
func (k Key) Set(value string) error {
	if u, ok := k.field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(value))
	}
	switch k.field.Kind() {
	case reflect.String:
		k.field.SetString(value)
	case reflect.Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q: want true or false", value)
		}
		k.field.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%q: want a whole number", value)
		}
		k.field.SetInt(n)
	case reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(value, 10, k.field.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q: want a whole number", value)
		}
		k.field.SetUint(n)
	case reflect.Slice:
		if k.field.Type().Elem().Kind() != reflect.String {
			return errors.New("only the file can set this")
		}
		parts := []string{}
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); part != "" {
				parts = append(parts, part)
			}
		}
		k.field.Set(reflect.ValueOf(parts))
	default:
		return fmt.Errorf("cannot be set from text (kind %s)", k.field.Kind())
	}
	return nil
}
