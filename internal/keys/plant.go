package keys

// canaryColumn is where the canary is planted. It is registered like any
// other, so that rotations pass over it too.
var canaryColumn = Column{Table: "keyset_canaries", Column: "sealed", Keys: []string{"organisation_id", "id"}, Organisation: "organisation_id"}
