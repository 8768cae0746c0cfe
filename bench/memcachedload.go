package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/rawio"
)

// memcachedLoad asks a cache server. All its connections belong to one thread that waits for them by epoll, as gearmanLoad's do, and
// each request and its answer have a known length, so that the load costs little beside the server.
type memcachedLoad struct {
	addr  string
	conns int
	depth int // requests on the way on each connection
	keys  int // of the working set
	size  int // bytes of a value
	kind  memcachedKind
}

type memcachedKind uint8

const (
	memcachedGet memcachedKind = iota
	memcachedSet
	memcachedMeta  // mg
	memcachedMixed // nine gets and a set
	memcachedMulti // get of 100 keys
)

const (
	memcachedSilence = 10 * time.Second
	memcachedBatches = 1024 // different ones that are sent in turn
	memcachedManyKey = 100  // keys of a multiget
)

// batch is what is sent at once, and how many bytes come back.
type batch struct {
	out    []byte
	answer int
	ops    int
}

func memcachedKey(b []byte, i int) []byte { return fmt.Appendf(b, "key:%012d", i) }

const memcachedKeyLen = 16

func (m *memcachedLoad) appendSet(b []byte, i int, value []byte) []byte {
	b = memcachedKey(append(b, "set "...), i)
	b = fmt.Appendf(b, " 0 0 %d\r\n", len(value))
	return append(append(b, value...), "\r\n"...)
}

// batches makes what will be sent.
func (m *memcachedLoad) batches() []batch {
	rng := rand.New(rand.NewPCG(7, 7))
	value := content(1, m.size)
	hit := len(fmt.Sprintf("VALUE  0 %d\r\n\r\n", m.size)) + memcachedKeyLen + m.size
	list := make([]batch, memcachedBatches)
	for i := range list {
		b := &list[i]
		for j := range m.depth {
			key := rng.IntN(m.keys)
			kind := m.kind
			if kind == memcachedMixed {
				kind = memcachedGet
				if (i*m.depth+j)%10 == 0 {
					kind = memcachedSet
				}
			}
			b.ops++
			switch kind {
			case memcachedGet:
				b.out = append(memcachedKey(append(b.out, "get "...), key), "\r\n"...)
				b.answer += hit + len("END\r\n")
			case memcachedSet:
				b.out = m.appendSet(b.out, key, value)
				b.answer += len("STORED\r\n")
			case memcachedMeta:
				b.out = append(memcachedKey(append(b.out, "mg "...), key), " v\r\n"...)
				b.answer += len(fmt.Sprintf("VA %d\r\n\r\n", m.size)) + m.size
			case memcachedMulti:
				b.out = append(b.out, "get"...)
				for range memcachedManyKey {
					b.out = memcachedKey(append(b.out, ' '), rng.IntN(m.keys))
					b.answer += hit
				}
				b.out = append(b.out, "\r\n"...)
				b.answer += len("END\r\n")
				b.ops += memcachedManyKey - 1
			}
		}
	}
	return list
}

type memcachedConn struct {
	fd    int
	want  int
	ops   int
	begun time.Time
}

// fill stores the working set.
func (m *memcachedLoad) fill() error {
	fd, err := memcachedDial(m.addr)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := content(1, m.size)
	var out []byte
	for i := 0; i < m.keys; {
		out = out[:0]
		n := 0
		for ; n < 100 && i < m.keys; n, i = n+1, i+1 {
			out = m.appendSet(out, i, value)
		}
		if err := memcachedExchange(fd, out, n*len("STORED\r\n")); err != nil {
			return err
		}
	}
	return nil
}

// memcachedExchange writes, and reads so many bytes. The socket waits.
func memcachedExchange(fd int, out []byte, answer int) error {
	for len(out) > 0 {
		n, err := unix.Write(fd, out)
		if err != nil {
			return err
		}
		out = out[n:]
	}
	var buf [64 << 10]byte
	for answer > 0 {
		n, err := unix.Read(fd, buf[:min(answer, len(buf))])
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("the server has closed a connection")
		}
		answer -= n
	}
	return nil
}

func memcachedDial(addr string) (int, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}); err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// run asks for a time, and returns the time of each batch and how many operations there were.
func (m *memcachedLoad) run(ctx context.Context, span time.Duration) (times []time.Duration, ops int64, elapsed time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	list := m.batches()
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, 0, 0, err
	}
	defer unix.Close(epoll)
	conns := make([]memcachedConn, 0, m.conns)
	defer func() {
		for _, c := range conns {
			unix.Close(c.fd)
		}
	}()
	if conns, err = m.open(epoll, conns); err != nil {
		return nil, 0, 0, err
	}
	times = make([]time.Duration, 0, 1<<20)
	begun := time.Now()
	end := begun.Add(span)
	next, waiting := 0, 0
	for i := range conns {
		if err := conns[i].send(&list[next%len(list)], time.Now()); err != nil {
			return nil, 0, 0, err
		}
		next++
		waiting++
	}
	buf := make([]byte, 256<<10)
	events := make([]unix.EpollEvent, 128)
	for waiting > 0 {
		n, err := memcachedWait(epoll, events)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, 0, 0, err
		case n == 0:
			return nil, 0, 0, fmt.Errorf("nothing happens: %d connections wait for answers", waiting)
		case ctx.Err() != nil:
			return nil, 0, 0, context.Cause(ctx)
		}
		now := time.Now()
		for _, e := range events[:n] {
			c := &conns[e.Fd]
			done, err := c.receive(buf)
			if err != nil {
				return nil, 0, 0, err
			}
			if !done {
				continue
			}
			ops += int64(c.ops)
			times = append(times, now.Sub(c.begun))
			if now.After(end) {
				waiting--
				continue
			}
			if err := c.send(&list[next%len(list)], now); err != nil {
				return nil, 0, 0, err
			}
			next++
		}
	}
	return times, ops, time.Since(begun), nil
}

// memcachedWait is epoll_wait for as long as memcachedSilence. It does not tell the runtime that it waits: that would cost the load more than what it
// does with most events, and keep the runtime's monitor awake besides.
func memcachedWait(epoll int, events []unix.EpollEvent) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)),
		uintptr(memcachedSilence.Milliseconds()), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// open makes the connections, and adds them to conns. Events name them by their place there.
func (m *memcachedLoad) open(epoll int, conns []memcachedConn) ([]memcachedConn, error) {
	for i := range m.conns {
		fd, err := memcachedDial(m.addr)
		if err != nil {
			return conns, err
		}
		conns = append(conns, memcachedConn{fd: fd})
		if err := unix.SetNonblock(fd, true); err != nil {
			return conns, err
		}
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return conns, err
		}
	}
	return conns, nil
}

// send begins a batch. There is never so much on the way that a socket would not take it.
func (c *memcachedConn) send(b *batch, now time.Time) error {
	c.want, c.ops, c.begun = b.answer, b.ops, now
	for out := b.out; len(out) > 0; {
		n, err := rawio.Write(uintptr(c.fd), out)
		if err == unix.EAGAIN {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}, int(memcachedSilence.Milliseconds()))
		}
		if err != nil && err != unix.EINTR {
			return err
		}
		out = out[n:]
	}
	return nil
}

// receive takes what has come, and reports whether that is all.
func (c *memcachedConn) receive(buf []byte) (bool, error) {
	n, err := rawio.Read(uintptr(c.fd), buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return false, nil
	case err != nil:
		return false, err
	case n == 0:
		return false, errors.New("the server has closed a connection")
	case n > c.want || buf[0] == 'E' && n < 100 && c.want > 100:
		return false, fmt.Errorf("the server answers %.100q", buf[:n])
	}
	c.want -= n
	return c.want == 0, nil
}
