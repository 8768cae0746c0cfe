package gearmand_test

import (
	"io"
	"net"
	"testing"
	"time"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/packet"
)

// FuzzServer feeds bytes to a live server, by two connections that share its jobs. It must live on, count no panic, and hold
// no more memory than it may.
func FuzzServer(f *testing.F) {
	p := func(t packet.Type, args ...string) []byte { return packet.Append(nil, packet.Req, t, args...) }
	join := func(list ...[]byte) (out []byte) {
		for _, b := range list {
			out = append(out, b...)
		}
		return out
	}
	f.Add(join(p(packet.SubmitJobBG, "f", "u", "x"), p(packet.SubmitJob, "f", "u", "x")),
		join(p(packet.CanDo, "f"), p(packet.GrabJob), p(packet.WorkStatus, "H:f:1", "1", "2"), p(packet.WorkComplete, "H:f:1", "r")))
	f.Add(join(p(packet.OptionReq, "exceptions"), p(packet.SubmitReduceJob, "f", "-", "r", "a", "x")),
		join(p(packet.CanDoTimeout, "f", "1"), p(packet.PreSleep), p(packet.GrabJobAll), p(packet.WorkException, "H:f:1", "e")))
	f.Add(join(p(packet.SubmitJobEpoch, "f", "", "1", "x"), p(packet.SubmitJobSched, "f", "", "", "", "", "", "", "x")),
		[]byte("status\nworkers\nshow jobs\nshow unique jobs\njobs\nclients\nprioritystatus\n"))
	f.Add([]byte("maxqueue f 1 2 3\ncreate function f\ndrop function f force\ncancel job H:f:1\n"),
		join(p(packet.CanDo, "f"), p(packet.CantDo, "f"), p(packet.ResetAbilities), p(packet.AllYours), p(packet.SetClientID, "me")))
	f.Add([]byte("\x00REQ\x00\x00\x00\x07\xff\xff\xff\xff"), []byte("\x00RES\x00\x00\x00\x07\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		const limit = 4 << 20
		s, err := gearmand.Open(t.Context(), gearmand.Options{
			HandlePrefix: "H:f", MaxMemory: limit, Store: newMemStore(), MaxFunctions: 100, MaxPacket: 1 << 20,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var ends []chan struct{}
		for _, in := range [][]byte{a, b} {
			ours, theirs := net.Pipe()
			s.ServeConn(theirs)
			end := make(chan struct{})
			ends = append(ends, end)
			go func() {
				defer close(end)
				io.Copy(io.Discard, ours)
			}()
			ours.SetWriteDeadline(time.Now().Add(10 * time.Second))
			ours.Write(in) // the server may have closed it
			defer func() {
				ours.Close()
				<-end
			}()
		}
		if m := s.Stats().Memory; m > limit {
			t.Errorf("%d bytes are held", m)
		}
		if s.Close(); s.Stats().Panics > 0 {
			t.Error("a connection panicked")
		}
		for _, end := range ends {
			<-end
		}
	})
}
