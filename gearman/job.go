package gearman

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"wheelhouse/gearman/packet"
)

// Priority says which jobs are handed out first, whatever their functions.
type Priority int8

// Priorities.
const (
	Normal Priority = iota
	High
	Low
)

// Job is one call of a function.
type Job struct {
	Func string // 1 to packet.MaxFunc bytes without NUL
	Arg  []byte // anything; not changed, and not kept longer than the call
	// Unique makes equal jobs one: a job that is waiting or running under the same Func and Unique is joined, and its Arg
	// and Priority stay. "-": the Arg is the key. "": never. At most 63 bytes without NUL, which is what gearmand keeps.
	Unique   string
	Priority Priority
	// Reducer has the worker hand on what it makes to this function. See PROTOCOL, "SUBMIT_REDUCE_JOB".
	Reducer string
	// RunAt is for background jobs: not before, in whole seconds. The priority is Normal then.
	RunAt time.Time
}

func (j *Job) validate() error {
	switch {
	case j.Func == "" || len(j.Func) > packet.MaxFunc || strings.ContainsRune(j.Func, 0):
		return fmt.Errorf("gearman: function name %.40q: want 1 to %d bytes without NUL", j.Func, packet.MaxFunc)
	case len(j.Unique) >= packet.MaxUnique || strings.ContainsRune(j.Unique, 0):
		return fmt.Errorf("gearman: %s: unique key %.40q: want at most %d bytes without NUL", j.Func, j.Unique, packet.MaxUnique-1)
	case j.Reducer != "" && (len(j.Reducer) > packet.MaxFunc || strings.ContainsRune(j.Reducer, 0)):
		return fmt.Errorf("gearman: %s: reducer %.40q: want at most %d bytes without NUL", j.Func, j.Reducer, packet.MaxFunc)
	case j.Reducer != "" && !j.RunAt.IsZero():
		return fmt.Errorf("gearman: %s: a job with a reducer cannot have a time", j.Func)
	case int64(len(j.Arg)) > maxArg:
		return fmt.Errorf("gearman: %s: argument of %d bytes: want at most %d", j.Func, len(j.Arg), int64(maxArg))
	}
	return nil
}

// maxArg leaves room for the other arguments below the protocol's 4 GiB.
const maxArg = 1<<32 - 4096

// foreground and background are the types by priority.
var (
	foreground = [...]packet.Type{Normal: packet.SubmitJob, High: packet.SubmitJobHigh, Low: packet.SubmitJobLow}
	background = [...]packet.Type{Normal: packet.SubmitJobBG, High: packet.SubmitJobHighBG, Low: packet.SubmitJobLowBG}
)

// appendTo appends the packet that submits j.
func (j *Job) appendTo(buf []byte, inBackground bool) []byte {
	unique, arg := []byte(j.Unique), j.Arg
	switch {
	case j.Reducer != "":
		typ := packet.SubmitReduceJob
		if inBackground {
			typ = packet.SubmitReduceJobBG
		}
		return packet.Append(buf, packet.Req, typ, []byte(j.Func), unique, []byte(j.Reducer), nil, arg)
	case !j.RunAt.IsZero():
		at := strconv.AppendInt(nil, j.RunAt.Unix(), 10)
		return packet.Append(buf, packet.Req, packet.SubmitJobEpoch, []byte(j.Func), unique, at, arg)
	case inBackground:
		return packet.Append(buf, packet.Req, background[j.Priority], []byte(j.Func), unique, arg)
	}
	return packet.Append(buf, packet.Req, foreground[j.Priority], []byte(j.Func), unique, arg)
}

// key is what makes a job equal to another, "" if nothing does.
func (j *Job) key() string {
	switch j.Unique {
	case "":
		return ""
	case "-":
		return j.Func + "\x00\x00" + string(j.Arg)
	}
	return j.Func + "\x00" + j.Unique
}

// Handle names a job on its server.
type Handle struct {
	Server string // address
	ID     string // such as H:host:12
}

// String is Server//ID, as Perl's client writes it.
func (h Handle) String() string { return h.Server + "//" + h.ID }

// ParseHandle reads what String writes.
func ParseHandle(s string) (Handle, error) {
	server, id, ok := strings.Cut(s, "//")
	if !ok || server == "" || id == "" {
		return Handle{}, fmt.Errorf("gearman: handle %q: want SERVER//ID", s)
	}
	return Handle{server, id}, nil
}

// Status is what a server knows of a job.
type Status struct {
	Known     bool // it waits or runs
	Running   bool
	Num, Den  uint64 // progress, as the worker gave it
	Listeners int    // clients that wait for it; StatusUnique only
}

var errStatus = errors.New("gearman: job server: status that is none")

func parseStatus(args [][]byte) (s Status, err error) {
	s.Known, s.Running = string(args[0]) == "1", string(args[1]) == "1"
	if s.Num, err = number(args[2]); err != nil {
		return s, errStatus
	}
	if s.Den, err = number(args[3]); err != nil {
		return s, errStatus
	}
	if len(args) > 4 {
		n, err := number(args[4])
		if err != nil {
			return s, errStatus
		}
		s.Listeners = int(n)
	}
	return s, nil
}

// number reads a count as text; workers send what they like, and nothing is zero.
func number(b []byte) (uint64, error) {
	if len(b) == 0 {
		return 0, nil
	}
	return strconv.ParseUint(string(b), 10, 64)
}
