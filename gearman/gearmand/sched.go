package gearmand

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// schedule is the time of SUBMIT_JOB_SCHED: -1 for a field that may be anything.
type schedule struct{ minute, hour, mday, month, wday int }

var scheduleFields = [5]struct {
	name     string
	min, max int
}{{"minute", 0, 59}, {"hour", 0, 23}, {"day of the month", 1, 31}, {"month", 1, 12}, {"day of the week", 0, 6}}

// parseSchedule reads the five fields: minute, hour, day of the month, month, day of the week (0 is Monday).
func parseSchedule(args [][]byte) (schedule, error) {
	var v [5]int
	for i, f := range scheduleFields {
		v[i] = -1
		if len(args[i]) == 0 {
			continue
		}
		n, err := strconv.Atoi(string(args[i]))
		if err != nil || n < f.min || n > f.max {
			return schedule{}, fmt.Errorf("%s %.20q is not empty and not in %d..%d", f.name, args[i], f.min, f.max)
		}
		v[i] = n
	}
	return schedule{v[0], v[1], v[2], v[3], v[4]}, nil
}

var errNever = errors.New("there is no such time")

func is(want, have int) bool { return want < 0 || want == have }

// next is the first full minute after t at which all fields that are given match, in t's time zone.
func (c schedule) next(t time.Time) (time.Time, error) {
	first := t.Truncate(time.Minute).Add(time.Minute)
	day := time.Date(first.Year(), first.Month(), first.Day(), 12, 0, 0, 0, t.Location())
	// The 29th of February falls on each day of the week within 40 years, also over a year without one.
	for range 41 * 366 {
		if is(c.mday, day.Day()) && is(c.month, int(day.Month())) && is(c.wday, (int(day.Weekday())+6)%7) {
			if at := c.onDay(day, first); !at.IsZero() {
				return at, nil
			}
		}
		day = day.AddDate(0, 0, 1)
		if c.mday > 29 && c.month > 0 && time.Date(2024, time.Month(c.month), c.mday, 0, 0, 0, 0, time.UTC).Day() != c.mday {
			break
		}
	}
	return time.Time{}, errNever
}

// onDay is the first matching minute of a day that is not before first; zero for none, also where the clocks are put forward.
func (c schedule) onDay(day, first time.Time) time.Time {
	for h := range 24 {
		if !is(c.hour, h) {
			continue
		}
		for m := range 60 {
			if !is(c.minute, m) {
				continue
			}
			at := time.Date(day.Year(), day.Month(), day.Day(), h, m, 0, 0, day.Location())
			if !at.Before(first) && at.Hour() == h && at.Minute() == m {
				return at
			}
		}
	}
	return time.Time{}
}
