"""OpenAI's and Ollama's Python clients against a running `pouch serve`, whose address is in POUCH_URL."""

import json
import os
import unittest

import ollama
import openai
from pydantic import BaseModel

URL, KEY = os.environ["POUCH_URL"], os.environ["POUCH_API_KEY"]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
MESSAGES = [{"role": "user", "content": "Hello"}]


class Paint(BaseModel):
    colour: bool
    count: bool


class OpenAI(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)

    def chat(self, **options):
        return self.client.chat.completions.create(
            model="tiny", messages=MESSAGES, **{"temperature": 0, "max_tokens": 12, **options}
        )

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], ["tiny"])
        self.assertEqual(self.client.models.retrieve("default").id, "tiny")

    def test_chat_whole_and_streamed(self):
        whole = self.chat(n=2, seed=1, logprobs=True, top_logprobs=2)
        self.assertEqual(whole.choices[0].finish_reason, "length")
        self.assertEqual(whole.usage.completion_tokens, 24)
        self.assertEqual(len(whole.choices[1].logprobs.content[0].top_logprobs), 2)
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.completion_tokens, 12)

    def test_chat_stream_helper(self):
        with self.client.chat.completions.stream(model="tiny", messages=MESSAGES, temperature=0, max_tokens=8) as stream:
            kinds = {event.type for event in stream}
            self.assertIn("content.delta", kinds)
            # The client's own way to say that an answer was cut.
            self.assertRaises(openai.LengthFinishReasonError, stream.get_final_completion)

    def test_parsed_answer(self):
        answer = self.client.chat.completions.parse(
            model="tiny", messages=MESSAGES, response_format=Paint, max_tokens=400, seed=3
        )
        self.assertIsInstance(answer.choices[0].message.parsed, Paint)

    def test_tools(self):
        tools = [{"type": "function", "function": {"name": "paint", "parameters": SCHEMA, "strict": True}}]
        options = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 400}
        answer = self.chat(**options)
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
        call = answer.choices[0].message.tool_calls[0]
        self.assertEqual(call.function.name, "paint")
        self.assertIn(json.loads(call.function.arguments)["colour"], ("red", "blue"))
        deltas = [chunk.choices[0].delta.tool_calls for chunk in self.chat(stream=True, **options)]
        arguments = "".join(calls[0].function.arguments for calls in deltas if calls)
        self.assertEqual(arguments, call.function.arguments)
        again = MESSAGES + [
            answer.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "painted"},
        ]
        self.client.chat.completions.create(model="tiny", messages=again, tools=tools, max_tokens=4)

    def test_completions(self):
        whole = self.client.completions.create(model="tiny", prompt="Once", temperature=0, max_tokens=8)
        pieces = self.client.completions.create(model="tiny", prompt="Once", temperature=0, max_tokens=8, stream=True)
        self.assertEqual("".join(piece.choices[0].text for piece in pieces), whole.choices[0].text)

    def test_responses(self):
        response = self.client.responses.create(model="tiny", input="Hello", temperature=0, max_output_tokens=8)
        self.assertEqual(response.status, "incomplete")
        self.assertEqual(self.client.responses.retrieve(response.id).output_text, response.output_text)
        with self.client.responses.stream(model="tiny", input="Hello", temperature=0, max_output_tokens=8) as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        self.assertEqual(text, response.output_text)
        follow = self.client.responses.create(
            model="tiny", input="More", previous_response_id=response.id, max_output_tokens=4
        )
        self.assertGreater(follow.usage.input_tokens, response.usage.input_tokens)
        long = self.client.responses.create(model="tiny", input="Hello", background=True, max_output_tokens=3500)
        self.assertEqual(self.client.responses.cancel(long.id).status, "cancelled")
        self.client.responses.delete(response.id)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve(response.id)

    def test_responses_tools_and_forms(self):
        tool = {"type": "function", "name": "paint", "parameters": SCHEMA, "strict": True}
        response = self.client.responses.create(
            model="tiny", input="Paint", tools=[tool], tool_choice="required", parallel_tool_calls=False
        )
        calls = [item for item in response.output if item.type == "function_call"]
        self.assertEqual(calls[0].name, "paint")
        parsed = self.client.responses.parse(model="tiny", input="Paint", text_format=Paint)
        self.assertIsInstance(parsed.output_parsed, Paint)

    def test_embeddings(self):
        answer = self.client.embeddings.create(model="tiny", input=["a", "b"])
        self.assertEqual([len(entry.embedding) for entry in answer.data], [64, 64])
        plain = self.client.embeddings.create(model="tiny", input="a", encoding_format="float")
        # The client asks for base64 unless told otherwise, whose floats it widens.
        for written, packed in zip(plain.data[0].embedding, answer.data[0].embedding, strict=True):
            self.assertAlmostEqual(written, packed, places=6)

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="none", messages=MESSAGES)
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(temperature=9)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{URL}/v1", api_key="wrong-key-here", max_retries=0).models.list()

    def test_leaving_a_stream(self):
        with self.chat(stream=True, max_tokens=3500) as stream:
            next(iter(stream))


class Ollama(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = ollama.Client(host=URL, headers={"Authorization": f"Bearer {KEY}"})

    def test_everything_front_ends_use(self):
        options = {"temperature": 0, "num_predict": 8}
        whole = self.client.chat(model="tiny", messages=MESSAGES, options=options)
        pieces = self.client.chat(model="tiny", messages=MESSAGES, options=options, stream=True)
        self.assertEqual("".join(piece.message.content for piece in pieces), whole.message.content)
        self.assertEqual(whole.eval_count, 8)
        self.assertTrue(self.client.generate(model="tiny", prompt="Hello", options=options).done)
        self.assertEqual([model.model for model in self.client.list().models], ["tiny"])
        self.assertEqual(self.client.show("tiny").details.family, "llama")
        self.assertEqual(len(self.client.embed(model="tiny", input="a").embeddings[0]), 64)
        fitted = self.client.chat(model="tiny", messages=MESSAGES, format=SCHEMA)
        self.assertIn(json.loads(fitted.message.content)["colour"], ("red", "blue"))
        with self.assertRaises(ollama.ResponseError):
            self.client.chat(model="none", messages=MESSAGES)


if __name__ == "__main__":
    unittest.main()
