"""LangChain's `ChatAnthropic`, by the standard tests that LangChain has for its integrations."""

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_tests.integration_tests import ChatModelIntegrationTests

from test_langchain import SCRIPTS


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings", "ignore:Received a Pydantic")
class TestStandard(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def at_the_gateway(self, gateway):
        self._url = gateway.url

    @property
    def chat_model_class(self):
        return ChatAnthropic

    @property
    def chat_model_params(self):
        return {"model": "gpt-4o", "base_url": self._url, "api_key": "any", "max_tokens": 1000}

    @pytest.fixture(autouse=True)
    def script(self, request, simulator):
        """The tests expect a model that understands the question: what it does is set here."""
        simulator.turns(*SCRIPTS.get(request.node.originalname, []))
