package packet_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/gearman/packet"
)

func TestPacket(t *testing.T) {
	b := packet.Append(nil, packet.Req, packet.SubmitJob, "reverse", "u1", "a\x00b")
	want := "\x00REQ\x00\x00\x00\x07\x00\x00\x00\x0ereverse\x00u1\x00a\x00b"
	if string(b) != want {
		t.Fatalf("Append = %q; want %q", b, want)
	}
	h := packet.ParseHeader(b)
	if h != (packet.Header{Magic: packet.Req, Type: packet.SubmitJob, Size: 14}) {
		t.Errorf("header = %+v", h)
	}
	args, err := packet.Split(h.Type, b[packet.HeaderSize:], nil)
	if diff := cmp.Diff([][]byte{[]byte("reverse"), []byte("u1"), []byte("a\x00b")}, args); diff != "" || err != nil {
		t.Errorf("Split: %s %v", diff, err)
	}
}

func TestSplitTooFew(t *testing.T) {
	if _, err := packet.Split(packet.SubmitJob, []byte("reverse\x00u1"), nil); !errors.Is(err, packet.ErrArguments) {
		t.Errorf("err = %v; want ErrArguments", err)
	}
}

func TestNames(t *testing.T) {
	n := 0
	for typ := packet.Type(0); typ < 50; typ++ {
		if typ.Known() {
			n++
		}
	}
	if n != 41 {
		t.Errorf("%d types; want 41", n)
	}
	if got := packet.SubmitReduceJobBG.String(); got != "SUBMIT_REDUCE_JOB_BACKGROUND" {
		t.Error(got)
	}
	if got := packet.Type(5).String(); got != "type 5" {
		t.Error(got)
	}
}

// FuzzSplit: no panic, and what was split goes together again to what it was.
func FuzzSplit(f *testing.F) {
	f.Add(uint32(7), []byte("f\x00u\x00data\x00more"))
	f.Add(uint32(20), []byte("H:x:1\x001\x000\x000\x001"))
	f.Fuzz(func(t *testing.T, typ uint32, data []byte) {
		args, err := packet.Split(packet.Type(typ), data, nil)
		if err != nil || len(args) == 0 {
			return
		}
		b := packet.Append(nil, packet.Req, packet.Type(typ), args...)
		if !bytes.Equal(b[packet.HeaderSize:], data) {
			t.Errorf("%q came back as %q", data, b[packet.HeaderSize:])
		}
	})
}
