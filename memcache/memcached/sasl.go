package memcached

import "bytes"

// saslStep is how far a connection's authentication has come.
type saslStep uint8

const (
	saslNone saslStep = iota
	saslPlain
)

const saslMechanisms = "PLAIN"

// sasl handles authentication by RFC 4616: the message is identity NUL user NUL password.
func (c *conn) sasl(h *binHead, mechanism, message []byte) error {
	users := c.s.opts.SASL
	if users == nil {
		c.binError(h, binUnknown)
		return nil
	}
	switch {
	case h.op == opSASLList:
		c.binReply(h, binOK, saslMechanisms, 0)
		return nil
	case !bytes.Equal(mechanism, []byte(saslMechanisms)):
		c.refuseAuth(h)
		return nil
	case h.op == opSASLAuth && len(message) == 0:
		c.step = saslPlain
		c.binReply(h, binAuthMore, "", 0)
		return nil
	case h.op == opSASLStep && c.step != saslPlain:
		c.refuseAuth(h)
		return nil
	}
	c.stripe.add(authCmds)
	c.step = saslNone
	_, rest, ok := bytes.Cut(message, []byte{0})
	user, password, ok2 := bytes.Cut(rest, []byte{0})
	if !ok || !ok2 || !checkPassword(users, string(user), password) {
		c.refuseAuth(h)
		return nil
	}
	c.authed, c.user = true, string(user)
	c.binReply(h, binOK, "Authenticated", 0)
	return nil
}

func (c *conn) refuseAuth(h *binHead) {
	c.stripe.add(authErrors)
	c.authed = false
	c.binError(h, binAuthFailure)
}
