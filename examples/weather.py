"""A tool loop, the smallest agent there is: Claude calls tools until it can answer.

Use it when the way to the answer cannot be known beforehand. Several calls of one reply run in parallel, and a call
that fails is told to Claude, which tries something else.
"""

from fsm import Claude, Final, Limits, Tools, Workflow, run, tool

FORECASTS = {"Bergen": (9, "rain"), "Lisbon": (21, "sun"), "Vienna": (14, "clouds")}


@tool
def find_cities(country: str) -> list[str]:
    """List the cities of a country that there are forecasts for."""
    return {"Norway": ["Bergen"], "Portugal": ["Lisbon"], "Austria": ["Vienna"]}.get(country, [])


@tool(idempotent=True)
def forecast(city: str) -> str:
    """Say what the weather will be tomorrow in a city."""
    degrees, sky = FORECASTS[city]  # a KeyError ends nothing: Claude reads that this city failed
    return f"{city}: {degrees} °C, {sky}"


class Weather(Workflow, limits=Limits(turns=10)):
    """Answers questions about tomorrow's weather."""

    asking = Claude(model="claude-haiku-4-5", max_tokens=1024, tools=[find_cities, forecast])
    calling = Tools()
    answered = Final()

    asking.on(tool_use=calling, end_turn=answered)
    calling.on(tool_results=asking)


if __name__ == "__main__":
    result = run(Weather, "Where will it be warmer tomorrow, in Lisbon or in Bergen?")
    print(result.text)
    print(result.verdict)
