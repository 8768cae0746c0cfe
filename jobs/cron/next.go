package cron

import (
	"math/bits"
	"time"
)

// horizon bounds the search for a day: the 29th of February falls on a given day of the week at least once in 40 years.
const horizon = 41

// Next returns the first time after t, in t's location. Zero if there is none.
//
// Where clocks are put forward, a schedule with particular hours comes once when the skipped hour is over, for all its times
// in that hour; where they are put back, it comes in the repeated hour the first time only. A schedule of every hour
// follows real time: it is neither made up for nor left out. @every comes at the multiples of its duration since 1970, so
// that all processes agree.
func (s Schedule) Next(t time.Time) time.Time {
	switch {
	case s.every > 0:
		step := int64(s.every / time.Second)
		n := t.Unix() / step
		if t.Unix() < 0 && t.Unix()%step != 0 {
			n--
		}
		return time.Unix((n+1)*step, 0).In(t.Location())
	case s.minute == 0:
		return time.Time{}
	case s.hour == 1<<24-1:
		return s.nextReal(t)
	}
	return s.nextWall(t)
}

// nextReal walks real time by the clock on the wall, minute by minute where it must.
func (s *Schedule) nextReal(t time.Time) time.Time {
	u := t.Truncate(0).Add(-time.Duration(t.Nanosecond()))
	u = u.Add(time.Duration(60-u.Second()) * time.Second)
	for last := t.Year() + horizon; u.Year() <= last; {
		if !s.onDay(u.Year(), u.Month(), u.Day()) {
			u = s.skipDays(u)
			continue
		}
		m := u.Minute()
		ahead := bits.TrailingZeros64(s.minute >> m)
		if ahead == 0 {
			return u
		}
		// No further than the hour: the clock may be changed there.
		u = u.Add(time.Duration(min(ahead, 60-m)) * time.Minute)
	}
	return time.Time{}
}

// skipDays returns the beginning of the next day that matches.
func (s *Schedule) skipDays(u time.Time) time.Time {
	y, m, d := u.Date()
	for range horizon * 366 {
		y, m, d = time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC).Date()
		if s.onDay(y, m, d) {
			break
		}
	}
	if v := instant(y, m, d, 0, 0, u.Location()); v.After(u) {
		return v
	}
	return u.Add(time.Minute) // a day that was repeated
}

// nextWall walks the wall clock's times and looks when each of them is.
func (s *Schedule) nextWall(t time.Time) time.Time {
	y, m, d := t.Date()
	hour, minute := t.Hour(), t.Minute()
	for range horizon * 366 {
		if s.onDay(y, m, d) {
			for h := next(s.hour, hour); h < 24; h = next(s.hour, h+1) {
				from := 0
				if h == hour {
					from = minute
				}
				for i := next(s.minute, from); i < 60; i = next(s.minute, i+1) {
					if u := instant(y, m, d, h, i, t.Location()); u.After(t) {
						return u
					}
				}
			}
		}
		hour, minute = 0, 0
		y, m, d = time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC).Date()
	}
	return time.Time{}
}

// next returns the lowest bit that is set from n on; 64 if there is none.
func next(set uint64, n int) int {
	if n > 63 {
		return 64
	}
	return bits.TrailingZeros64(set >> n << n)
}

// onDay reports whether a day matches.
func (s *Schedule) onDay(y int, m time.Month, d int) bool {
	if s.month&(1<<m) == 0 {
		return false
	}
	dom := s.dom&(1<<d) != 0
	dow := s.dow&(1<<time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Weekday()) != 0
	if s.bothDays {
		return dom && dow
	}
	return dom || dow
}

// instant is when the clock on the wall shows a time: the first time it does, or, if the time is skipped, when the clock is
// put forward.
func instant(y int, m time.Month, d, h, i int, loc *time.Location) time.Time {
	wall := time.Date(y, m, d, h, i, 0, 0, time.UTC)
	t := time.Date(y, m, d, h, i, 0, 0, loc)
	start, end := t.ZoneBounds()
	_, offset := t.Zone()
	shown := t.Add(time.Duration(offset) * time.Second).UTC()
	switch {
	case shown.After(wall) && !start.IsZero():
		return start.In(loc)
	case shown.Before(wall) && !end.IsZero():
		return end.In(loc)
	case start.IsZero():
		return t
	}
	_, before := start.Add(-time.Second).Zone()
	if first := wall.Add(-time.Duration(before) * time.Second); first.Before(start) {
		return first.In(loc)
	}
	return t
}
