// Package packet is Gearman's binary protocol: what packets there are, and their form on the wire.
//
// A packet is a header of 12 bytes, magic(4) type(4) size(4) in network order, and size bytes of arguments that are separated
// by NUL; the last one is the rest, and may hold anything.
package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// HeaderSize is the size of a header in bytes.
const HeaderSize = 12

// Limits, in bytes. Gearman's PROTOCOL and libgearman.
const (
	MaxHandle   = 63
	MaxUnique   = 64
	MaxFunc     = 512
	MaxClientID = 127
	MaxOption   = 64
)

// Magic says in which direction a packet goes.
type Magic [4]byte

// Magics.
var (
	Req = Magic{0, 'R', 'E', 'Q'} // to the server
	Res = Magic{0, 'R', 'E', 'S'} // from the server
)

// Type is a packet's type.
type Type uint32

// Types, by the numbers of Gearman's PROTOCOL.
const (
	CanDo             Type = 1
	CantDo            Type = 2
	ResetAbilities    Type = 3
	PreSleep          Type = 4
	Noop              Type = 6
	SubmitJob         Type = 7
	JobCreated        Type = 8
	GrabJob           Type = 9
	NoJob             Type = 10
	JobAssign         Type = 11
	WorkStatus        Type = 12
	WorkComplete      Type = 13
	WorkFail          Type = 14
	GetStatus         Type = 15
	EchoReq           Type = 16
	EchoRes           Type = 17
	SubmitJobBG       Type = 18
	Error             Type = 19
	StatusRes         Type = 20
	SubmitJobHigh     Type = 21
	SetClientID       Type = 22
	CanDoTimeout      Type = 23
	AllYours          Type = 24
	WorkException     Type = 25
	OptionReq         Type = 26
	OptionRes         Type = 27
	WorkData          Type = 28
	WorkWarning       Type = 29
	GrabJobUniq       Type = 30
	JobAssignUniq     Type = 31
	SubmitJobHighBG   Type = 32
	SubmitJobLow      Type = 33
	SubmitJobLowBG    Type = 34
	SubmitJobSched    Type = 35
	SubmitJobEpoch    Type = 36
	SubmitReduceJob   Type = 37
	SubmitReduceJobBG Type = 38
	GrabJobAll        Type = 39
	JobAssignAll      Type = 40
	GetStatusUnique   Type = 41
	StatusResUnique   Type = 42
	maxType                = StatusResUnique
)

// kind is what is known of a type.
type kind struct {
	name string
	args int // how many arguments, the rest included
}

var kinds = [maxType + 1]kind{
	CanDo: {"CAN_DO", 1}, CantDo: {"CANT_DO", 1}, ResetAbilities: {"RESET_ABILITIES", 0}, PreSleep: {"PRE_SLEEP", 0},
	Noop: {"NOOP", 0}, SubmitJob: {"SUBMIT_JOB", 3}, JobCreated: {"JOB_CREATED", 1}, GrabJob: {"GRAB_JOB", 0},
	NoJob: {"NO_JOB", 0}, JobAssign: {"JOB_ASSIGN", 3}, WorkStatus: {"WORK_STATUS", 3}, WorkComplete: {"WORK_COMPLETE", 2},
	WorkFail: {"WORK_FAIL", 1}, GetStatus: {"GET_STATUS", 1}, EchoReq: {"ECHO_REQ", 1}, EchoRes: {"ECHO_RES", 1},
	SubmitJobBG: {"SUBMIT_JOB_BG", 3}, Error: {"ERROR", 2}, StatusRes: {"STATUS_RES", 5}, SubmitJobHigh: {"SUBMIT_JOB_HIGH", 3},
	SetClientID: {"SET_CLIENT_ID", 1}, CanDoTimeout: {"CAN_DO_TIMEOUT", 2}, AllYours: {"ALL_YOURS", 0},
	WorkException: {"WORK_EXCEPTION", 2}, OptionReq: {"OPTION_REQ", 1}, OptionRes: {"OPTION_RES", 1}, WorkData: {"WORK_DATA", 2},
	WorkWarning: {"WORK_WARNING", 2}, GrabJobUniq: {"GRAB_JOB_UNIQ", 0}, JobAssignUniq: {"JOB_ASSIGN_UNIQ", 4},
	SubmitJobHighBG: {"SUBMIT_JOB_HIGH_BG", 3}, SubmitJobLow: {"SUBMIT_JOB_LOW", 3}, SubmitJobLowBG: {"SUBMIT_JOB_LOW_BG", 3},
	SubmitJobSched: {"SUBMIT_JOB_SCHED", 8}, SubmitJobEpoch: {"SUBMIT_JOB_EPOCH", 4}, SubmitReduceJob: {"SUBMIT_REDUCE_JOB", 5},
	SubmitReduceJobBG: {"SUBMIT_REDUCE_JOB_BACKGROUND", 5}, GrabJobAll: {"GRAB_JOB_ALL", 0}, JobAssignAll: {"JOB_ASSIGN_ALL", 5},
	GetStatusUnique: {"GET_STATUS_UNIQUE", 1}, StatusResUnique: {"STATUS_RES_UNIQUE", 6},
}

// String is the type's name in Gearman's PROTOCOL.
func (t Type) String() string {
	if t.Known() {
		return kinds[t].name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Known reports whether there is such a type.
func (t Type) Known() bool { return t <= maxType && kinds[t].name != "" }

// Args is how many arguments a packet of the type has, the last one included.
func (t Type) Args() int {
	if !t.Known() {
		return 0
	}
	return kinds[t].args
}

// Header is a packet's header.
type Header struct {
	Magic Magic
	Type  Type
	Size  uint32 // bytes that follow
}

// ParseHeader reads a header from the first HeaderSize bytes of b, which must be there. It does not judge it.
func ParseHeader(b []byte) Header {
	_ = b[HeaderSize-1]
	return Header{Magic(b[:4]), Type(binary.BigEndian.Uint32(b[4:])), binary.BigEndian.Uint32(b[8:])}
}

// ErrArguments says that a packet has fewer arguments than its type wants.
var ErrArguments = errors.New("packet: too few arguments")

// Split cuts a packet's data into the arguments that its type has. The results are parts of data. args is used when it is
// long enough, so that nothing is allocated.
func Split(t Type, data []byte, args [][]byte) ([][]byte, error) {
	n := t.Args()
	args = args[:0]
	for i := 1; i < n; i++ {
		end := bytes.IndexByte(data, 0)
		if end < 0 {
			return nil, fmt.Errorf("%w: %s has %d, wants %d", ErrArguments, t, i, n)
		}
		args, data = append(args, data[:end]), data[end+1:]
	}
	if n > 0 {
		args = append(args, data)
	}
	return args, nil
}

// Append appends a packet with the given arguments. None but the last may hold a NUL; that is the caller's to see to.
func Append[B []byte | string](buf []byte, m Magic, t Type, args ...B) []byte {
	size := max(0, len(args)-1)
	for _, a := range args {
		size += len(a)
	}
	buf = AppendHeader(buf, m, t, size)
	for i, a := range args {
		if i > 0 {
			buf = append(buf, 0)
		}
		buf = append(buf, a...)
	}
	return buf
}

// AppendHeader appends the header of a packet with size bytes of data.
func AppendHeader(buf []byte, m Magic, t Type, size int) []byte {
	buf = append(buf, m[:]...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(t))
	return binary.BigEndian.AppendUint32(buf, uint32(size))
}
