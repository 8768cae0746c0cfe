package storetest

import (
	"time"
)

func catalogBackups(t *catalogTest) {
	const lease = time.Minute
	claim := func(what string, every time.Duration, want bool) {
		got, err := t.Catalog.ClaimBackup(t.ctx, every, lease)
		t.ok(err)
		t.equal(what, got, want)
	}
	claim("backups are off", 0, false)
	claim("a new catalog's first", time.Hour, false)
	t.clock.add(4 * time.Minute)
	claim("not yet", time.Hour, false)
	t.clock.add(time.Minute)
	claim("after a twelfth", time.Hour, true)
	claim("somebody is at it", time.Hour, false)
	t.clock.add(lease)
	claim("who has not finished", time.Hour, true)
	t.ok(t.Catalog.ScheduleBackup(t.ctx, t.clock.now().Add(time.Hour)))
	t.clock.add(59 * time.Minute)
	claim("an hour is not over", time.Hour, false)
	t.clock.add(time.Minute)
	claim("an hour later", time.Hour, true)
	t.ok(t.Catalog.ScheduleBackup(t.ctx, t.clock.now().Add(24*time.Hour)))
	claim("once a day", 24*time.Hour, false)
	claim("now once an hour", time.Hour, false)
	t.clock.add(time.Hour)
	claim("an hour after that", time.Hour, true)
	t.ok(t.Catalog.ScheduleBackup(t.ctx, time.Time{}))
	claim("off again", 0, false)
	t.ok(t.Catalog.ScheduleBackup(t.ctx, time.Unix(0, 0)))
	claim("asked for", 0, true)
	claim("once", 0, false)
}
