package balancerd

import (
	"bytes"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/proxy"
)

// uploadKept is how long an upload is remembered after its last packet.
const uploadKept = 4 * time.Second

// maxUploads is how many are remembered.
const maxUploads = 10000

// uploads are those that this process has been told of as an upload_tracker.
type uploads struct {
	mu   sync.Mutex
	list map[string]*uploadState
}

type uploadState struct {
	done, total int64
	began, last time.Time
}

// expire forgets what nothing has been heard of.
func (u *uploads) expire(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, s := range u.list {
		if now.Sub(s.last) > uploadKept {
			delete(u.list, id)
		}
	}
}

// packet takes in UPLOAD:session:done:total:began:now.
func (u *uploads) packet(p []byte) {
	f := strings.Split(string(bytes.TrimSpace(p)), ":")
	if len(f) < 5 || f[0] != "UPLOAD" {
		return
	}
	done, err1 := strconv.ParseInt(f[2], 10, 64)
	total, err2 := strconv.ParseInt(f[3], 10, 64)
	began, err3 := strconv.ParseInt(f[4], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.list == nil {
		u.list = map[string]*uploadState{}
	}
	if _, known := u.list[f[1]]; known || len(u.list) < maxUploads {
		u.list[f[1]] = &uploadState{done, total, time.Unix(began, 0), time.Now()}
	}
}

// packetListener is the socket of an upload_tracker in the place of a listener. It never has a connection.
type packetListener struct {
	net.PacketConn
	u *uploads
}

func listenPackets(u *uploads, addr string) (net.Listener, error) {
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	return &packetListener{pc, u}, nil
}

// Accept takes in packets until the socket is closed.
func (l *packetListener) Accept() (net.Conn, error) {
	buf := make([]byte, 1500)
	for {
		n, _, err := l.ReadFrom(buf)
		if err != nil {
			return nil, err
		}
		l.u.packet(buf[:n])
	}
}

// Addr is the socket's address.
func (l *packetListener) Addr() net.Addr { return l.LocalAddr() }

// progress tells the listeners of a service how an upload does. A packet that is lost is not missed.
func (s *Service) progress(session string, done, total int64, began time.Time) {
	text := fmt.Appendf(nil, "UPLOAD:%s:%d:%d:%d:%d", session, done, total, began.Unix(), time.Now().Unix())
	for _, addr := range s.Settings().UploadStatusListeners {
		c, err := net.Dial("udp", addr)
		if err != nil {
			continue
		}
		c.Write(text)
		c.Close()
	}
}

var statusForm = regexp.MustCompile(`^client_up_sess=(\w{5,50})$`)

// uploadStatus answers GET /__upload_status?client_up_sess=S.
func (s *Service) uploadStatus(r *balancer.Request) bool {
	if len(r.Set.UploadStatusListeners) == 0 || string(r.Path) != "/__upload_status" {
		return false
	}
	body := "{}"
	if m := statusForm.FindSubmatch(r.Query); m != nil {
		u := &s.b.uploads
		u.mu.Lock()
		if st := u.list[string(m[1])]; st != nil {
			body = proxy.Status(st.done, st.total, st.began, time.Now())
		}
		u.mu.Unlock()
	}
	r.X.Header().Set("Content-Type", "text/plain")
	r.Reply(200, []byte(body))
	return true
}
