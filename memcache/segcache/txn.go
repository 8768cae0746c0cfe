package segcache

// Miss says why a key was not found.
type Miss uint8

// The reasons.
const (
	Absent Miss = iota
	Expired
	Flushed
)

// Txn is one access to one key: from Begin to End the key's shard is locked, so it must be short, must not block, and one goroutine
// can have only one at a time. A Txn may be used again after End.
type Txn struct {
	Miss Miss // why Found is false

	c    *Cache
	sh   *shard
	key  []byte
	hash uint64
	gen  uint32 // of the key's prefixes
	slot *uint64
	addr uint64
	head uint32
	size int    // of the item that Store had no room for
	exp  uint32 // its expiry time
}

// Begin locks the shard of key and looks the key up. An item that has expired or was flushed is removed.
func (c *Cache) Begin(t *Txn, key []byte) {
	h := c.hash(key)
	sh := c.shard(h)
	sh.mu.Lock()
	*t = Txn{c: c, sh: sh, key: key, hash: h}
	if c.gens.any.Load() {
		t.gen = c.gens.of(key, c.opts.Delimiter)
	}
	slot := sh.find(c, h, key)
	if slot == nil {
		return
	}
	t.slot, t.addr = slot, slotAddr(*slot)
	t.head = *c.word(t.addr)
	t.removeGone()
}

// removeGone removes the item if it has expired or was flushed.
func (t *Txn) removeGone() bool {
	c := t.c
	miss := c.gone(t.addr, t.head, t.gen)
	if miss == Absent {
		return false
	}
	if miss == Expired && t.head&markFetched == 0 {
		class, _ := c.classAt(t.addr, t.head)
		t.sh.classes[class].ExpiredUnfetched++
	}
	c.unlink(t.sh, t.slot)
	t.slot, t.Miss = nil, miss
	return true
}

// gone says whether an item that is linked is not there any more. The shard is locked.
func (c *Cache) gone(addr uint64, head, gen uint32) Miss {
	if exp := *c.word(addr + 4); exp != 0 && exp <= c.Now() {
		return Expired
	}
	if c.outdated(addr, head, gen) {
		return Flushed
	}
	if f := c.flushEpoch.Load(); f != 0 && c.regionOf(addr).epoch < f {
		return Flushed
	}
	return Absent
}

// outdated reports whether a prefix, of which gen is the generation, or a tag was flushed after the item was stored.
func (c *Cache) outdated(addr uint64, head, gen uint32) bool {
	g := c.genAt(addr, head)
	if gen > g {
		return true
	}
	if head&markGen == 0 || !c.gens.any.Load() {
		return false
	}
	// One above the last is of before the numbers began anew.
	tags := c.tagsAt(addr, head)
	return g > c.gens.last.Load() || tags != nil && c.gens.ofTags(tags) > g
}

// End unlocks the shard.
func (t *Txn) End() { t.sh.mu.Unlock() }

// Found reports whether the key has an item. The methods below that read or change it want one.
func (t *Txn) Found() bool { return t.slot != nil }

// Value is the item's value. It is valid, and must not be changed, until End.
func (t *Txn) Value() []byte { return t.c.valueAt(t.addr, t.head) }

// Len is the length of the value.
func (t *Txn) Len() int { return t.c.valueLen(t.addr, t.head) - t.c.tagBytes(t.addr, t.head) }

// Tags are the item's tags, with commas between them; nil: it has none. They are valid until End.
func (t *Txn) Tags() []byte { return t.c.tagsAt(t.addr, t.head) }

// Flags are the client's flags.
func (t *Txn) Flags() uint32 { return t.c.flagsAt(t.addr, t.head) }

// Version is the item's version.
func (t *Txn) Version() uint64 { return t.c.loadCAS(t.addr) }

// Exp is the time at which the item expires, 0: never.
func (t *Txn) Exp() uint32 { return *t.c.word(t.addr + 4) }

// Access is the time at which the item was stored or last bumped.
func (t *Txn) Access() uint32 { return *t.c.word(t.addr + 8) }

// Marks are the item's marks.
func (t *Txn) Marks() Marks { return Marks(t.head>>8) & allMarks }

// Size is the item's size as Options.SizeOf has it, and its class.
func (t *Txn) Size() (class, size int) {
	k, n := t.c.classAt(t.addr, t.head)
	return int(k), n
}

// Class returns the counters of the item's class, for the fields that are the user's.
func (t *Txn) Class() *ClassStats {
	k, _ := t.c.classAt(t.addr, t.head)
	return &t.sh.classes[k]
}

// ClassFor returns the counters of the class that an item of the key with such a value is in.
func (t *Txn) ClassFor(valueLen int, flags bool) (class int, s *ClassStats) {
	k := t.c.sizes.of(t.c.opts.SizeOf(len(t.key), valueLen, flags))
	return int(k), &t.sh.classes[k]
}

// InMain reports whether the item has left probation.
func (t *Txn) InMain() bool { return t.c.regionOf(t.addr).queue == mainQueue }

// SetMarks sets and clears marks.
func (t *Txn) SetMarks(set, clear Marks) {
	t.head = t.head&^(uint32(clear&allMarks)<<8) | uint32(set&allMarks)<<8
	*t.c.word(t.addr) = t.head
}

// SetVersion gives the item another version.
func (t *Txn) SetVersion(v uint64) { t.c.storeCAS(t.addr, v) }

// SetExp changes when the item expires (0: never).
func (t *Txn) SetExp(exp uint32) {
	p := t.c.word(t.addr + 4)
	if *p == exp {
		return
	}
	*p = exp
	t.c.regionOf(t.addr).expireBy(exp)
}

// Bump notes that the item was used: it is more likely to be kept, and is Fetched.
func (t *Txn) Bump() {
	t.Want()
	if t.head&markFetched == 0 {
		t.SetMarks(Fetched, 0)
	}
}

// Want is Bump for an item that was asked after and not read: it is not Fetched by that.
func (t *Txn) Want() {
	t.used()
	if now, p := t.c.Now(), t.c.word(t.addr+8); *p != now {
		*p = now
	}
}

// Delete removes the item.
func (t *Txn) Delete() {
	t.c.unlink(t.sh, t.slot)
	t.slot = nil
}

// Overwrite replaces bytes of the value in place, from its beginning; p must not be longer than the value. Readers that hold the
// item (Hold) may see it, so it is for small values.
func (t *Txn) Overwrite(p []byte) { copy(t.Value(), p) }

// Put is an item to be stored. Its value is A and then B, so that something can be appended without a copy.
type Put struct {
	A, B    []byte
	Flags   uint32
	Exp     uint32 // time, 0: never
	Version uint64
	Marks   Marks
	Tags    []byte // with commas between; none may be empty; at most MaxTags bytes
	Joined  bool   // A, B or Tags are of the item that is replaced
}

// tagged is the length and the generation of an item with tags: value and gen are those that it would have without.
func (c *Cache) tagged(value int, gen uint32, tags []byte) (int, uint32) {
	if len(tags) == 0 {
		return value, gen
	}
	if c.gens.any.Load() {
		gen = max(gen, c.gens.ofTags(tags))
	}
	return value + len(tags) + 1, gen | genTagged
}

// appendTags writes tags, and their length behind them, to the end of an item's value.
func appendTags(payload, tags []byte) {
	if len(tags) > 0 {
		end := len(payload) - 1
		copy(payload[end-len(tags):], tags)
		payload[end] = byte(len(tags))
	}
}

// Store stores an item under the key, in place of one that is there. ErrNoRoom: nothing has changed; call End and Room, and begin
// again. After Store the Txn is at the new item.
func (t *Txn) Store(p *Put) error {
	c := t.c
	n, gen := c.tagged(len(p.A)+len(p.B), t.gen, p.Tags)
	head := makeHead(len(t.key), n, p.Flags, gen, p.Marks)
	size := itemSize(head, n)
	t.size, t.exp = size, p.Exp
	if t.slot != nil && !p.Joined && t.fits(head, size, p.Exp) {
		t.count(-1)
		c.regionOf(t.addr).expireBy(p.Exp)
		*c.word(t.addr) = head
		t.head = head
		t.write(p, n, gen)
		t.count(+1)
		t.used()
		return nil
	}
	known := t.slot != nil && slotUse(*t.slot) > 0
	q := probation
	if known || t.slot == nil && c.ghost.take(t.hash) {
		q = mainQueue
	}
	addr, r, ok := c.reserve(c.active(q, size, p.Exp), head, size, p.Exp)
	if !ok && q == mainQueue {
		q = probation // it is there, and often enough the main queue has no open region
		addr, r, ok = c.reserve(c.active(q, size, p.Exp), head, size, p.Exp)
	}
	if !ok {
		return ErrNoRoom
	}
	copy(c.bytes(addr+headerSize+uint64(extra(head)), len(t.key)), t.key)
	old := t.addr
	t.addr, t.head = addr, head
	t.write(p, n, gen)
	t.addr = old
	return t.link(addr, head, r)
}

// write writes all of an item but its head's place and its key.
func (t *Txn) write(p *Put, n int, gen uint32) {
	t.c.writeHeader(t.addr, t.head, n, p.Exp, t.c.Now(), p.Flags, gen, p.Version)
	v := t.c.payloadAt(t.addr, t.head)
	copy(v[copy(v, p.A):], p.B)
	appendTags(v, p.Tags)
}

// fits reports whether a new item can be written over the old one. Not over one that is being read without the lock, not into a
// region that a flush has ended or is going to, and not where it would outlive those around it.
func (t *Txn) fits(head uint32, size int, exp uint32) bool {
	c := t.c
	if itemSize(t.head, c.valueLen(t.addr, t.head)) != size || extra(head) != extra(t.head) || c.epoch.Load() != c.regionOf(t.addr).epoch {
		return false
	}
	now := c.Now()
	return ttlBucket(exp, now) == ttlBucket(t.Exp(), now) && c.regionOf(t.addr).refs.Load() == 0
}

func (t *Txn) used() {
	if slotUse(*t.slot) < maxUse {
		*t.slot += useOne
	}
}

// link makes a written item the key's, and lets go of its region.
func (t *Txn) link(addr uint64, head uint32, r *region) error {
	c := t.c
	defer c.release(r)
	if t.slot != nil {
		use := slotUse(*t.slot)
		c.unlink(t.sh, t.slot)
		t.slot = nil
		if r.queue == probation {
			use = min(use, maxUse-1) + 1
		}
		slot, err := t.sh.insert(c, t.hash, makeSlot(t.hash, addr, use))
		if err != nil {
			c.drop(addr, r, head)
			return err
		}
		t.slot = slot
	} else {
		slot, err := t.sh.insert(c, t.hash, makeSlot(t.hash, addr, 0))
		if err != nil {
			c.drop(addr, r, head)
			return err
		}
		t.slot = slot
	}
	t.addr, t.head = addr, head
	t.count(+1)
	return nil
}

// drop makes room that was taken dead. The region is held.
func (c *Cache) drop(addr uint64, r *region, head uint32) {
	*c.word(addr) = head | markDead
	r.live.Add(-int64(itemSize(head, c.valueLen(addr, head))))
}

// count adds the item to its class, or takes it out.
func (t *Txn) count(d int64) { t.c.countItem(t.sh, t.addr, t.head, d) }

func (c *Cache) countItem(sh *shard, addr uint64, head uint32, d int64) {
	class, size := c.classAt(addr, head)
	k := &sh.classes[class]
	k.Items += d
	k.Bytes += d * int64(size)
	if c.regionOf(addr).queue == probation {
		k.Probation += d
	}
}

// unlink removes an item from the index and marks it dead. The shard is locked.
func (c *Cache) unlink(sh *shard, slot *uint64) {
	addr := slotAddr(*slot)
	head := *c.word(addr)
	c.countItem(sh, addr, head, -1)
	*slot = 0
	c.drop(addr, c.regionOf(addr), head)
}

func (c *Cache) active(q queueID, size int, exp uint32) *active {
	l, b := c.kind(size, exp)
	return &c.actives[q][l][b]
}

// kind says which open region an item belongs to.
func (c *Cache) kind(size int, exp uint32) (large, bucket int) {
	if size > 1<<c.segShift/largeFraction {
		large = 1
	}
	return large, ttlBucket(exp, c.Now())
}

// Reservation is room for one item whose value is written outside of the lock. It must be ended by Txn.Commit or Abort.
type Reservation struct {
	c    *Cache
	r    *region
	addr uint64
	head uint32
	gen  uint32
	exp  uint32
	n    int // the value's length, without tags
}

// Reserve takes room for an item, evicting others where it must, which may take a while. Until Commit or Abort the region can not be evicted.
func (c *Cache) Reserve(key []byte, valueLen int, flags, exp uint32, tags []byte) (Reservation, error) {
	gen := uint32(0)
	if c.gens.any.Load() {
		gen = c.gens.of(key, c.opts.Delimiter)
	}
	n, gen := c.tagged(valueLen, gen, tags)
	head := makeHead(len(key), n, flags, gen, 0)
	size := itemSize(head, n)
	for {
		addr, r, ok := c.reserve(c.active(probation, size, exp), head, size, exp)
		if ok {
			v := Reservation{c, r, addr, head, gen, exp, valueLen}
			c.writeHeader(addr, head, n, exp, c.Now(), flags, gen, 0)
			copy(c.keyAt(addr, head), key)
			appendTags(c.payloadAt(addr, head), tags)
			return v, nil
		}
		if err := c.roomFor(size, exp); err != nil {
			return Reservation{}, err
		}
	}
}

// Value is where the value is to be written.
func (v *Reservation) Value() []byte {
	return v.c.bytes(v.addr+headerSize+uint64(extra(v.head)+int(v.head&0xff)), v.n)
}

// Exp is the expiry time that was asked for.
func (v *Reservation) Exp() uint32 { return v.exp }

// Used reports whether Commit or Abort has been called.
func (v *Reservation) Used() bool { return v.r == nil }

// Abort gives the room up, unless it is used already.
func (v *Reservation) Abort() {
	if v.r == nil {
		return
	}
	r := v.r
	v.r = nil
	defer v.c.release(r)
	v.c.drop(v.addr, r, v.head)
}

// Commit stores a reserved item under the key of the access, which is the one it was reserved for. ErrFlushed: a flush came between,
// and the reservation is as before; Store what Value has. After any other result it is used up.
func (t *Txn) Commit(v *Reservation, version uint64, marks Marks) error {
	c := t.c
	if _, gen := c.tagged(0, t.gen, c.tagsAt(v.addr, v.head)); v.gen != gen || v.r.epoch < c.flushEpoch.Load() {
		return ErrFlushed
	}
	head := v.head | uint32(marks&allMarks)<<8
	*c.word(v.addr) = head
	*c.word(v.addr + 8) = c.Now()
	c.storeCAS(v.addr, version)
	r := v.r
	v.r = nil
	return t.link(v.addr, head, r)
}

// Hold keeps the item's region in memory after End, so that the value can be read without a copy until Release. The value does not
// change meanwhile, except by Overwrite.
func (t *Txn) Hold() Held {
	r := t.c.regionOf(t.addr)
	r.refs.Add(1)
	if r.held.Add(1) == 1 {
		t.c.held.Add(int64(r.count))
	}
	return Held{t.c, r}
}

// Held is a region that is being read.
type Held struct {
	c *Cache
	r *region
}

// Release lets go of it.
func (h Held) Release() {
	if h.r.held.Add(-1) == 0 {
		h.c.held.Add(-int64(h.r.count))
	}
	h.c.release(h.r)
}

// HeldBytes is how much memory cannot be used for other items as it is held.
func (c *Cache) HeldBytes() int64 { return c.held.Load() << c.segShift }
