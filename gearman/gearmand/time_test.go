package gearmand_test

import (
	"net"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/gearmantest"
	"wheelhouse/gearman/packet"
)

// inBubble runs f with a server whose time is the test's; dial connects to it by a pipe.
func inBubble(t *testing.T, opts gearmand.Options, f func(t *testing.T, dial func() *gearmantest.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		s, err := gearmand.Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f(t, func() *gearmantest.Conn {
			ours, theirs := net.Pipe()
			s.ServeConn(theirs)
			return gearmantest.New(t, ours)
		})
	})
}

func TestEpoch(t *testing.T) {
	inBubble(t, gearmand.Options{}, func(t *testing.T, dial func() *gearmantest.Conn) {
		c, w := dial(), dial()
		begun := time.Now()
		at := func(d time.Duration) string { return strconv.FormatInt(begun.Add(d).Unix(), 10) }
		for _, d := range []time.Duration{9 * time.Second, 5 * time.Second, 5 * time.Second} {
			c.Send(packet.SubmitJobEpoch, "f", "", at(d), at(d))
			c.Expect(packet.JobCreated)
		}
		w.Worker("f")
		w.Send(packet.PreSleep)
		w.Expect(packet.Noop)
		if d := time.Since(begun); d < 4*time.Second || d > 5*time.Second {
			t.Errorf("woken after %v; want 5 s, less what the clock was beyond a full second", d)
		}
		synctest.Wait()
		for range 2 {
			if _, data := w.Grab(); data != at(5*time.Second) {
				t.Errorf("got the job for %s", data)
			}
		}
		if h, _ := w.Grab(); h != "" {
			t.Error("got a job before its time")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if _, data := w.Grab(); data != at(9*time.Second) {
			t.Errorf("got the job for %s", data)
		}
	})
}

func TestTimeoutQueuesAgain(t *testing.T) {
	inBubble(t, gearmand.Options{}, func(t *testing.T, dial func() *gearmantest.Conn) {
		c, slow, quick := dial(), dial(), dial()
		h := c.Submit(packet.SubmitJob, "f", "", "x")
		slow.Send(packet.CanDoTimeout, "f", "3")
		if got, _ := slow.Grab(); got != h {
			t.Fatalf("got %q", got)
		}
		quick.Worker("f")
		quick.Send(packet.PreSleep)
		begun := time.Now()
		quick.Expect(packet.Noop)
		if d := time.Since(begun); d != 3*time.Second {
			t.Errorf("queued again after %v; want 3s", d)
		}
		if got, _ := quick.Grab(); got != h {
			t.Fatalf("got %q", got)
		}
		slow.Send(packet.WorkComplete, h, "late")
		slow.Expect(packet.Error, "JOB_NOT_FOUND")
		time.Sleep(time.Hour) // the second worker announced no timeout
		quick.Send(packet.WorkComplete, h, "good")
		c.Expect(packet.WorkComplete, h, "good")
	})
}

func TestTimeoutFails(t *testing.T) {
	inBubble(t, gearmand.Options{TimeoutFails: true}, func(t *testing.T, dial func() *gearmantest.Conn) {
		c, w := dial(), dial()
		h := c.Submit(packet.SubmitJob, "f", "", "x")
		w.Send(packet.CanDoTimeout, "f", "1500")
		w.Grab()
		begun := time.Now()
		c.Expect(packet.WorkFail, h)
		if d := time.Since(begun); d != 1500*time.Millisecond {
			t.Errorf("failed after %v; want 1.5s", d)
		}
		w.Send(packet.WorkComplete, h, "late")
		w.Expect(packet.Error, "JOB_NOT_FOUND")
	})
}

func TestTimeoutIsForgottenWithTheJob(t *testing.T) {
	inBubble(t, gearmand.Options{TimeoutFails: true}, func(t *testing.T, dial func() *gearmantest.Conn) {
		c, w := dial(), dial()
		w.Send(packet.CanDoTimeout, "f", "5")
		for range 3 {
			h := c.Submit(packet.SubmitJob, "f", "", "x")
			w.Grab()
			time.Sleep(4 * time.Second)
			w.Send(packet.WorkComplete, h, "r")
			c.Expect(packet.WorkComplete, h, "r")
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	inBubble(t, gearmand.Options{IdleTimeout: time.Minute}, func(t *testing.T, dial func() *gearmantest.Conn) {
		idle, busy, worker, waiting := dial(), dial(), dial(), dial()
		worker.Worker("g")
		waiting.Submit(packet.SubmitJob, "f", "", "x")
		for range 20 {
			time.Sleep(20 * time.Second)
			busy.Nothing()
		}
		idle.Closed()
		worker.Nothing()
		waiting.Nothing()
		busy.Nothing()
	})
}

// NO_JOB after a job waits for another job, but not for long.
func TestParkedWorker(t *testing.T) {
	inBubble(t, gearmand.Options{}, func(t *testing.T, dial func() *gearmantest.Conn) {
		c, w := dial(), dial()
		w.Worker("f")
		for range 2 {
			h := c.Submit(packet.SubmitJob, "f", "", "x")
			if got, _ := w.Grab(); got != h {
				t.Fatalf("got %q", got)
			}
			w.Send(packet.WorkComplete, h, "r")
			w.Send(packet.GrabJob)
			c.Expect(packet.WorkComplete, h, "r")
			synctest.Wait()
			h = c.Submit(packet.SubmitJob, "f", "", "y") // handed over without NOOP
			w.Expect(packet.JobAssign, h, "f", "y")
			w.Send(packet.WorkComplete, h, "r")
			c.Expect(packet.WorkComplete, h, "r")
			w.Send(packet.GrabJob)
			begun := time.Now()
			w.Expect(packet.NoJob)
			if d := time.Since(begun); d > 2*time.Millisecond {
				t.Errorf("NO_JOB after %v", d)
			}
		}
		w.Send(packet.GrabJob)
		begun := time.Now()
		w.Expect(packet.NoJob)
		if d := time.Since(begun); d != 0 {
			t.Errorf("NO_JOB for a worker that has done nothing after %v; want at once", d)
		}
	})
}

// A worker that is parked and sends something else gets its answers in order.
func TestParkedWorkerGoesOn(t *testing.T) {
	inBubble(t, gearmand.Options{}, func(t *testing.T, dial func() *gearmantest.Conn) {
		c, w := dial(), dial()
		w.Worker("f")
		h := c.Submit(packet.SubmitJobBG, "f", "", "x")
		w.Grab()
		w.Send(packet.WorkComplete, h, "r")
		w.Send(packet.GrabJob)
		w.Send(packet.EchoReq, "x")
		w.Expect(packet.NoJob)
		w.Expect(packet.EchoRes, "x")
		h = c.Submit(packet.SubmitJobBG, "f", "", "x")
		w.Grab()
		w.Send(packet.WorkComplete, h, "r")
		w.Send(packet.GrabJob)
		synctest.Wait()
		w.Close() // parked workers that leave get nothing
		synctest.Wait()
		h = c.Submit(packet.SubmitJobBG, "f", "", "y")
		v := dial().Worker("f")
		if got, _ := v.Grab(); got != h {
			t.Errorf("got %q; want %q", got, h)
		}
	})
}
