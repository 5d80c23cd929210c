// Package strictjson reads configuration: JSON in which nothing is read over in silence.
//
// Decode fills a value as encoding/json would, by the same tags, and reports all that is
// wrong, each with its place, the path of the field and what is allowed. Beyond
// encoding/json:
//
//   - names of fields are exact, and an unknown one or one that is there twice is an error;
//   - a time.Duration is text above 0 such as "300ms", "" the same as nothing;
//   - null is the same as nothing for a field, and an error as an element of a list or map
//     that cannot be nil; an empty list or object becomes a nil slice or map;
//   - a time is in RFC 3339, becomes one in UTC, and "" is the same as nothing;
//   - an array must have the length of its Go type;
//   - nothing follows the document, and it is not nested deeper than 512 levels.
//
// An UnmarshalJSON or UnmarshalText of a type is used, and its errors get the place of the
// value. A field with the tag strictjson:"open" may have unknown fields in it, at any depth.
//
// What only a later check finds, with a path but no place, Locate places:
//
//	doc, err := strictjson.Parse(data, strictjson.Options{Package: "plugins", File: name})
//	if err == nil {
//		err = doc.Decode(&config)
//	}
//	if err == nil {
//		err = doc.Locate(config.validate()) // errors of package check
//	}
package strictjson
