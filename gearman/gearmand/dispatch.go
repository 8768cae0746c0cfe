package gearmand

import (
	"strconv"
	"strings"
	"time"

	"wheelhouse/gearman/packet"
)

// dispatch handles one packet. s.mu is held; data is valid until it returns.
func (c *conn) dispatch(t packet.Type, data []byte) {
	args, err := packet.Split(t, data, c.args[:0])
	if err != nil {
		c.refuse(argumentsRefusal(t))
		return
	}
	s := c.srv
	s.unpark(c)
	switch t {
	case packet.SubmitJob, packet.SubmitJobBG, packet.SubmitJobHigh, packet.SubmitJobHighBG, packet.SubmitJobLow, packet.SubmitJobLowBG:
		k := submitKinds[t]
		s.submit(c, &submission{fn: args[0], unique: args[1], data: args[2], prio: k.prio, background: k.background})
	case packet.SubmitReduceJob, packet.SubmitReduceJobBG:
		// PROTOCOL's aggregator, args[3], is used by nobody.
		s.submit(c, &submission{
			fn: args[0], unique: args[1], reducer: args[2], data: args[4], prio: Normal, background: t == packet.SubmitReduceJobBG,
		})
	case packet.SubmitJobEpoch:
		s.submitEpoch(c, args)
	case packet.SubmitJobSched:
		s.submitSched(c, args)
	case packet.GrabJob, packet.GrabJobUniq, packet.GrabJobAll:
		s.grab(c, t)
	case packet.WorkComplete, packet.WorkFail, packet.WorkException, packet.WorkData, packet.WorkWarning, packet.WorkStatus:
		s.result(c, t, args, data)
	case packet.CanDo:
		s.canDo(c, args[0], 0)
	case packet.CanDoTimeout:
		if d, err := parseTimeout(args[1]); err != nil {
			c.refuse(errTimeout)
		} else {
			s.canDo(c, args[0], d)
		}
	case packet.CantDo:
		s.cantDo(c, args[0])
	case packet.ResetAbilities:
		s.resetAbilities(c)
	case packet.AllYours: // what it announces follows from the abilities
	case packet.PreSleep:
		if s.runnable(c) {
			c.send(packetNoop)
		} else {
			s.sleep(c)
		}
	case packet.EchoReq:
		c.send(packet.EchoRes, args[0])
	case packet.GetStatus:
		s.status(c, args[0])
	case packet.GetStatusUnique:
		s.statusUnique(c, args[0])
	case packet.SetClientID:
		if len(args[0]) > packet.MaxClientID {
			c.refuse(errClientID)
			return
		}
		c.clientID = string(args[0])
	case packet.OptionReq:
		c.option(args[0])
	default: // what only a server sends, and numbers without a meaning
		c.refuse(errCommand)
	}
}

func (c *conn) option(name []byte) {
	if !strings.EqualFold(string(name), "exceptions") {
		c.refuse(errOption)
		return
	}
	c.exceptions = true
	c.send(packet.OptionRes, name)
}

// parseTimeout reads the timeout of CAN_DO_TIMEOUT. PROTOCOL means milliseconds, but Danga's server and Perl's workers mean
// seconds; nobody means less than a second, so below 1000 it is seconds. 0 and below: none.
func parseTimeout(b []byte) (time.Duration, error) {
	n, err := strconv.ParseInt(cString(b), 10, 32)
	switch {
	case err != nil:
		return 0, err
	case n <= 0:
		return 0, nil
	case n < 1000:
		return time.Duration(n) * time.Second, nil
	}
	return time.Duration(n) * time.Millisecond, nil
}

// cString is the text before a NUL, which some clients send at the end.
func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

var one, zero = []byte("1"), []byte("0")

func flag(b bool) []byte {
	if b {
		return one
	}
	return zero
}

func (s *Server) status(c *conn, handle []byte) {
	j := s.find(handle)
	if j == nil {
		c.send(packet.StatusRes, handle, zero, zero, zero, zero)
		return
	}
	var n, d [10]byte
	c.send(packet.StatusRes, handle, one, flag(j.state == running),
		strconv.AppendUint(n[:0], uint64(j.num1), 10), strconv.AppendUint(d[:0], uint64(j.den), 10))
}

func (s *Server) statusUnique(c *conn, unique []byte) {
	j := s.merge[string(unique)]
	if j == nil || len(unique) == 0 {
		c.send(packet.StatusResUnique, unique, zero, zero, zero, zero, zero)
		return
	}
	clients := 0
	for l := j.listeners; l != nil; l = l.next {
		clients++
	}
	var n, d, k [20]byte
	c.send(packet.StatusResUnique, unique, one, flag(j.state == running), strconv.AppendUint(n[:0], uint64(j.num1), 10),
		strconv.AppendUint(d[:0], uint64(j.den), 10), strconv.AppendInt(k[:0], int64(clients), 10))
}
