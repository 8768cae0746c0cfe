package store

import "strconv"

// DerivedBucket holds what has been made of objects: photos in other sizes. It is an ordinary private bucket that belongs to
// nobody; clients get its objects through their originals. What is in it can always be made again.
const DerivedBucket = ".derived"

// DerivedPrefix is what the names of all that was made of an object begin with. It goes by the id, so that what was made of a
// version that has been replaced is never taken for the new one's.
func DerivedPrefix(id ObjectID) string { return strconv.FormatUint(uint64(id), 10) + "/" }
