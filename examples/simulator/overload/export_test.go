package overload

// PlayFairness is the part on fairness alone, with a part of the time.
var PlayFairness = playFairness
