package proxy

import (
	"wheelhouse/internal/http1"
)

// upgradeOf is the protocol that a client asks for on its connection (RFC 9110 §7.8), "" when it asks for none, or when the
// request cannot be one: it is then forwarded without.
func upgradeOf(q *http1.Request) string {
	v := q.Header.Bytes("Upgrade")
	if v == nil || q.Minor < 1 || q.HasBody() {
		return ""
	}
	// RFC 9113 §3.1: deprecated; a backend that takes it would speak past the balancer. It may stand among others.
	if nominated([][]byte{v}, []byte("h2c")) {
		return ""
	}
	for _, list := range q.Header.Values("Connection") {
		if nominated([][]byte{[]byte(list)}, []byte("upgrade")) {
			return string(v)
		}
	}
	return ""
}

// tunnel joins client and backend after both have changed protocol.
func (c *call) tunnel(res *http1.Response) {
	defer res.Body.Close()
	sw, ok := http1.As[http1.Switcher](c.x)
	if !ok {
		c.r.Error(502, "", "the backend changed protocol, which the client's connection cannot")
		return
	}
	protocol := res.Header.Get("Upgrade")
	copyFields(c.x.Header(), &res.Header, nil)
	up := res.Switched()
	if up == nil {
		c.r.Error(502, "", "the backend's connection is gone")
		return
	}
	down, err := sw.Switch(protocol)
	if err != nil {
		up.Close()
		c.r.Reason = "the client is gone: " + err.Error()
		return
	}
	c.r.Status = 101
	_, c.r.Sent = http1.Tunnel(down, up, c.set.UpgradeTimeout)
}
