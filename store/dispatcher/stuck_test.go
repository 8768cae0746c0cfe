package dispatcher_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"wheelhouse/store/dispatcher"
)

// A disk of this process hangs. Who was reading from it waits for it; everybody after them is served by the others, as long as it
// hangs, though nothing probes it.
func TestReadsGoRoundADiskOfOursThatHangs(t *testing.T) {
	for _, size := range []int{100, 1 << 20} {
		ts := newStore(t, setup{inside: true, options: dispatcher.Options{ProbeRetry: time.Hour}})
		ts.bucket("b")
		body := string(randomBody(size))
		const objects = 12 // some are read first from each disk
		for i := range objects {
			if a := ts.do("PUT", fmt.Sprint("/b/o", i), bytes.NewReader([]byte(body))); a.status != 201 {
				t.Fatal(a)
			}
		}
		ts.devices[1].set(fault{hangRead: make(chan struct{})})
		var stuck sync.WaitGroup
		for i := range objects {
			stuck.Go(func() {
				if a := ts.do("GET", fmt.Sprint("/b/o", i), nil); a.status != 200 || a.body != body {
					t.Errorf("GET = %d, %d bytes", a.status, len(a.body))
				}
			})
		}
		tick := time.NewTicker(10 * time.Millisecond)
		for ts.d.Metrics().Stalls.Load() == 0 { // it is noticed; else the test ends by its time
			<-tick.C
		}
		tick.Stop()
		for range 3 {
			for i := range objects {
				if a := ts.do("GET", fmt.Sprint("/b/o", i), nil); a.status != 200 || a.body != body {
					t.Errorf("GET = %d, %d bytes", a.status, len(a.body))
				}
			}
		}
		ts.devices[1].set(fault{})
		stuck.Wait()
	}
}
