package storable

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Unmarshal reads an argument into the value that v points to: an image of Storable, or else JSON. Images follow the rules
// of encoding/json as to structs, their tags, maps and slices; as Perl does not tell numbers from strings, each is read as the
// other where that is wanted, and what is not empty or "0" is true. A []byte takes the bytes of a string as they are.
func Unmarshal(arg []byte, v any) error {
	if !Is(arg) {
		return json.Unmarshal(arg, v)
	}
	dst := reflect.ValueOf(v)
	if dst.Kind() != reflect.Pointer || dst.IsNil() {
		return fmt.Errorf("storable: Unmarshal into %T: want a pointer", v)
	}
	src, err := Decode(arg)
	if err != nil {
		return err
	}
	return assign(dst.Elem(), src, "argument")
}

// assign sets dst. name is what it is called in errors.
func assign(dst reflect.Value, src any, name string) error {
	if src == nil {
		dst.SetZero()
		return nil
	}
	switch dst.Kind() {
	case reflect.Pointer:
		if dst.IsNil() {
			dst.Set(reflect.New(dst.Type().Elem()))
		}
		return assign(dst.Elem(), src, name)
	case reflect.Interface:
		if dst.NumMethod() == 0 {
			dst.Set(reflect.ValueOf(src))
			return nil
		}
	case reflect.Slice:
		return assignSlice(dst, src, name)
	case reflect.Map:
		return assignMap(dst, src, name)
	case reflect.Struct:
		return assignStruct(dst, src, name)
	default:
		return assignScalar(dst, src, name)
	}
	return mismatch(dst, src, name)
}

func mismatch(dst reflect.Value, src any, name string) error {
	what := map[string]string{"map[string]interface {}": "hash", "[]interface {}": "array"}[fmt.Sprintf("%T", src)]
	if what == "" {
		what = fmt.Sprintf("%.40q", fmt.Sprint(src))
	}
	return fmt.Errorf("storable: %s: cannot be read into a %s: %s", name, dst.Type(), what)
}

func assignSlice(dst reflect.Value, src any, name string) error {
	if s, ok := src.(string); ok && dst.Type().Elem().Kind() == reflect.Uint8 {
		dst.SetBytes([]byte(s))
		return nil
	}
	list, ok := src.([]any)
	if !ok {
		return mismatch(dst, src, name)
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(list), len(list)))
	for i, v := range list {
		if err := assign(dst.Index(i), v, fmt.Sprintf("%s[%d]", name, i)); err != nil {
			return err
		}
	}
	return nil
}

func assignMap(dst reflect.Value, src any, name string) error {
	m, ok := src.(map[string]any)
	if !ok || dst.Type().Key().Kind() != reflect.String {
		return mismatch(dst, src, name)
	}
	dst.Set(reflect.MakeMapWithSize(dst.Type(), len(m)))
	for k, v := range m {
		e := reflect.New(dst.Type().Elem()).Elem()
		if err := assign(e, v, name+"."+k); err != nil {
			return err
		}
		dst.SetMapIndex(reflect.ValueOf(k).Convert(dst.Type().Key()), e)
	}
	return nil
}

func assignStruct(dst reflect.Value, src any, name string) error {
	m, ok := src.(map[string]any)
	if !ok {
		return mismatch(dst, src, name)
	}
	for k, v := range m {
		f, ok := field(dst, k)
		if !ok {
			continue
		}
		if err := assign(f, v, name+"."+k); err != nil {
			return err
		}
	}
	return nil
}

// field finds the field of a name: by its tag, or else by its own name, in any case of letters.
func field(dst reflect.Value, name string) (reflect.Value, bool) {
	t := dst.Type()
	loose := -1
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "-":
		case tag == name, tag == "" && f.Name == name:
			return dst.Field(i), true
		case strings.EqualFold(tag, name), tag == "" && strings.EqualFold(f.Name, name):
			loose = i
		}
	}
	if loose < 0 {
		return reflect.Value{}, false
	}
	return dst.Field(loose), true
}

func assignScalar(dst reflect.Value, src any, name string) error {
	switch dst.Kind() {
	case reflect.String:
		if s, ok := text(src); ok {
			dst.SetString(s)
			return nil
		}
	case reflect.Bool:
		if s, ok := text(src); ok {
			dst.SetBool(s != "" && s != "0")
			return nil
		}
	case reflect.Float32, reflect.Float64:
		s, _ := text(src)
		if f, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil && !dst.OverflowFloat(f) {
			dst.SetFloat(f)
			return nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if n, ok := number(src); ok && !dst.OverflowInt(n) {
			dst.SetInt(n)
			return nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n, ok := number(src); ok && n >= 0 && !dst.OverflowUint(uint64(n)) {
			dst.SetUint(uint64(n))
			return nil
		}
	}
	return mismatch(dst, src, name)
}

// text is a scalar as Perl prints it.
func text(src any) (string, bool) {
	switch v := src.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'g', 15, 64), true
	case bool:
		if v {
			return "1", true
		}
		return "", true
	}
	return "", false
}

// number is a scalar that is a whole number.
func number(src any) (int64, bool) {
	switch v := src.(type) {
	case int64:
		return v, true
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<63
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}
