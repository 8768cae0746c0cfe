package storable_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/jobs/storable"
)

// image is bytes that are written as in a protocol: hexadecimal, and texts in quotes.
func image(t testing.TB, text string) []byte {
	t.Helper()
	var b []byte
	for i, part := range strings.Split(text, `"`) {
		if i%2 == 1 {
			b = append(b, part...)
			continue
		}
		raw, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, raw...)
	}
	return b
}

// mail is what Perl makes of {to => 'bob', list => [1, 2, 3]}.
const mail = `050b 03 00000002 0a03 "bob" 00000002 "to" 0402 00000003 0881 0882 0883 00000004 "list"`

func TestDecode(t *testing.T) {
	for text, want := range map[string]any{
		mail:                                                           map[string]any{"to": "bob", "list": []any{int64(1), int64(2), int64(3)}},
		`050b 02 00000000`:                                             []any{},
		`0504 02 00000002 05 0e`:                                       []any{nil, nil},
		`050b 02 00000002 0f 10`:                                       []any{true, false},
		`050b 02 00000002 09 fffffffe 0800`:                            []any{int64(-2), int64(-128)},
		`050b 02 00000001 17 02 c3bc`:                                  []any{"ü"},
		`050b 02 00000001 01 00000002 "xy"`:                            []any{"xy"},
		`050b 02 00000001 06 0100000000000000`:                         []any{int64(1)},
		`050b 02 00000001 07 000000000000f83f`:                         []any{1.5},
		`050b 1905 00000001 0881 01 00000002 c3bc`:                     map[string]any{"ü": int64(1)},
		`050b 11 03 "Foo" 03 00000001 0881 00000001 "a"`:               map[string]any{"a": int64(1)},
		`050b 02 00000002 0402 00000001 0881 0400 00000002`:            []any{[]any{int64(1)}, []any{int64(1)}},
		`050b 02 00000002 0411 01 "A" 02 00000000 0412 00 02 00000000`: []any{[]any{}, []any{}},
	} {
		got, err := storable.Decode(image(t, text))
		if err != nil {
			t.Errorf("Decode(%s): %v", text, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Decode(%s) (-want +got):\n%s", text, d)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	deep := "050b" + strings.Repeat("02 00000001", storable.MaxDepth+1) + "05"
	// Each array holds the one before it twice.
	bomb := "050b 02 00000020 0402 00000002 05 05"
	for i := range 31 {
		bomb += fmt.Sprintf("0402 00000002 0400 %08x 0400 %08[1]x", 2+4*i)
	}
	for text, want := range map[string]string{
		``:                               "not an image",
		`0508`:                           "not an image",
		`0408 02 00000000`:               "not an image",
		`050c 02 00000000`:               "not an image",
		`050b 02 00000001`:               "cut off",
		`050b 02 ffffffff`:               "cut off",
		`050b 03 ffffffff 05`:            "cut off",
		`050b 02 00000000 00`:            "behind the end",
		`050b 1a`:                        "type 26",
		`050b 02 00000001 0400 00000000`: "holds itself",
		`050b 02 00000001 00 00000007`:   "not there yet",
		`050b 12 00 02 00000000`:         "class 0 of 0",
		deep:                             "deeper than",
	} {
		if v, err := storable.Decode(image(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Decode(%s) = %v, %v; want an error with %q", text, v, err, want)
		}
	}
	if _, err := storable.Decode(image(t, bomb)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("an image that grows exponentially: %v", err)
	}
}

type order struct {
	To    string `json:"to"`
	List  []int
	Price float64           `json:"price"`
	Tags  map[string]string `json:"tags"`
	Raw   []byte            `json:"raw"`
	Big   *uint64           `json:"big"`
	Paid  bool              `json:"paid"`
	Any   any               `json:"any"`
	Skip  string            `json:"-"`
}

func TestUnmarshal(t *testing.T) {
	in := map[string]any{
		"to": 17, "list": []any{"1", 2, -300}, "price": "2.5", "tags": map[string]any{"a": 1, "b": nil},
		"raw": []byte("\xff\x00"), "big": int64(1) << 40, "paid": "yes", "any": []string{"x"}, "Skip": "x", "unknown": 1,
	}
	b, err := storable.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got order
	if err := storable.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	big := uint64(1) << 40
	want := order{
		To: "17", List: []int{1, 2, -300}, Price: 2.5, Tags: map[string]string{"a": "1", "b": ""}, Raw: []byte("\xff\x00"),
		Big: &big, Paid: true, Any: []any{"x"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	got = order{}
	if err := storable.Unmarshal([]byte(`{"to":"x","list":[1]}`), &got); err != nil || got.To != "x" || len(got.List) != 1 {
		t.Errorf("of JSON: %+v, %v", got, err)
	}
	var wrong struct{ To []string }
	if err := storable.Unmarshal(b, &wrong); err == nil || !strings.Contains(err.Error(), "argument.to") {
		t.Errorf("a string into a slice: %v", err)
	}
	if err := storable.Unmarshal(b, got); err == nil {
		t.Error("not into a pointer: no error")
	}
}

func TestRaw(t *testing.T) {
	for arg, want := range map[string]error{"": nil, "{}": nil, "\x03": nil, "\x04x": storable.ErrRaw, "\x0b": storable.ErrRaw, "\x0c": nil} {
		if err := storable.Raw([]byte(arg)); !errors.Is(err, want) {
			t.Errorf("Raw(%q) = %v; want %v", arg, err, want)
		}
	}
}

func TestMarshalErrors(t *testing.T) {
	for _, v := range []any{nil, "x", 1, []any{struct{}{}}} {
		if b, err := storable.Marshal(v); err == nil {
			t.Errorf("Marshal(%#v) = %x", v, b)
		}
	}
}

// TestPerl: what Perl writes is read, and what is written Perl reads.
func TestPerl(t *testing.T) {
	perl := func(program string, args ...string) []byte {
		t.Helper()
		out, err := exec.Command("perl", append([]string{"-MStorable=nfreeze,thaw", "-e", program}, args...)...).Output()
		if err != nil {
			t.Fatalf("perl: %v: %s", err, err.(*exec.ExitError).Stderr)
		}
		return out
	}
	b := perl(`my $s = [1]; binmode STDOUT; print nfreeze(bless {a => [1, -5, 300, 70000, -9e9, 1.5, "text", "\x{fc}", "\x{263a}", undef],
		"\x{263a}" => {x => "y" x 300}, s1 => $s, s2 => $s, obj => bless([], "Foo::Bar"), obj2 => bless([], "Foo::Bar")}, "Top")`)
	got, err := storable.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"a": []any{int64(1), int64(-5), int64(300), int64(70000), "-9000000000", "1.5", "text", "\xfc", "☺", nil},
		"☺": map[string]any{"x": strings.Repeat("y", 300)}, "s1": []any{int64(1)}, "s2": []any{int64(1)}, "obj": []any{}, "obj2": []any{},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Decode (-want +got):\n%s", d)
	}
	ours, err := storable.Marshal(map[string]any{
		"a": []any{1, -5, 300, 70000, int64(-9e9), 1.5, "text", []byte("\xfc"), "☺", nil}, "☺": map[string]string{"x": strings.Repeat("y", 300)},
	})
	if err != nil {
		t.Fatal(err)
	}
	out := perl(`my $h = thaw(pack "H*", $ARGV[0]); binmode STDOUT, ":utf8";
		print join("|", map { defined $_ ? $_ : "undef" } @{$h->{a}}), "|", length $h->{"\x{263a}"}{x}`, hex.EncodeToString(ours))
	if want := "1|-5|300|70000|-9000000000|1.5|text|ü|☺|undef|300"; string(out) != want {
		t.Errorf("Perl read %s; want %s", out, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(image(f, mail))
	f.Add(image(f, `050b 11 03 "Foo" 1905 00000001 0400 00000000 01 00000002 c3bc`))
	f.Add(image(f, `050b 02 00000003 0402 00000001 0881 0400 00000002 01 00000002 "xy"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := storable.Decode(b)
		if err != nil {
			return
		}
		again, err := storable.Marshal(v)
		if err != nil {
			return // a single scalar
		}
		w, err := storable.Decode(again)
		if err != nil {
			t.Fatalf("Decode of Marshal of %v: %v", v, err)
		}
		if d := cmp.Diff(fmt.Sprint(v), fmt.Sprint(w)); d != "" {
			t.Errorf("-first +second:\n%s", d)
		}
		var into order
		_ = storable.Unmarshal(b, &into) // may fail, must not panic
	})
}
